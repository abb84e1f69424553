"""`ccfallback providers`: the chain, seen and changed.

A verb is a function in `show` (reads), `edit` (writes) or `trial` (asks), and a line below, in the
order of help.
"""

from ccfallback.cli.options import make_app
from ccfallback.cli.providers import edit, show
from ccfallback.cli.providers.test import trial

app = make_app(
    name="providers",
    help="Show and change the chain of providers.",
    epilog="Example: ccfallback providers list",
)

app.command("list", epilog="Example: ccfallback providers list --json")(show.everyone)
app.command("show", epilog="Example: ccfallback providers show openrouter")(show.one)
app.command(
    "add",
    epilog="Example: ccfallback providers add deepseek --preset deepseek\n"
    "ccfallback providers add mine --base-url http://localhost:1234/v1",
)(edit.add)
app.command("test", epilog="Example: ccfallback providers test openrouter")(trial)
app.command("presets", epilog="Example: ccfallback providers presets")(show.list_presets)
app.command("set", epilog="Example: ccfallback providers set openrouter --retry 1")(edit.change)
app.command("move", epilog="Example: ccfallback providers move openrouter --to 1")(edit.move)
app.command("forget", epilog="Example: ccfallback providers forget openrouter")(edit.forget)
app.command("remove", epilog="Example: ccfallback providers remove openrouter")(edit.remove)
app.command("enable", epilog="Example: ccfallback providers enable openrouter")(edit.enable)
app.command("disable", epilog="Example: ccfallback providers disable anthropic-primary")(
    edit.disable
)
