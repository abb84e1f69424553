"""`ccfallback providers`: view, change and test the chain.

Each command is a function in `show`, `edit`, `discover` or `test`, and one line below, in the order
of help.
"""

from ccfallback.cli.options import make_app
from ccfallback.cli.providers import discover, edit, show, test

app = make_app(
    name="providers",
    help="Show and change the chain of providers.",
    epilog="Example: ccfallback providers list",
)

app.command("list", epilog="Example: ccfallback providers list --json")(show.list_chain)
app.command("show", epilog="Example: ccfallback providers show openrouter")(show.show_one)
app.command(
    "add",
    brief=True,
    epilog="Example: ccfallback providers add bedrock\n"
    "ccfallback providers add deepseek --api-key-env DEEPSEEK_API_KEY\n"
    "ccfallback providers add mine --base-url http://localhost:1234/v1",
)(edit.add)
app.command("set", brief=True, epilog="Example: ccfallback providers set openrouter --retry 1")(
    edit.set_
)
app.command("remove", epilog="Example: ccfallback providers remove openrouter")(edit.remove)
app.command("enable", epilog="Example: ccfallback providers enable openrouter")(edit.enable)
app.command("disable", epilog="Example: ccfallback providers disable anthropic-primary")(
    edit.disable
)
app.command("move", epilog="Example: ccfallback providers move openrouter --to 1")(edit.move)
app.command("test", epilog="Example: ccfallback providers test openrouter")(test.run)
app.command("discover", epilog="Example: ccfallback providers discover --add-all")(
    discover.discover
)
app.command("presets", epilog="Example: ccfallback providers presets")(show.list_presets)
app.command("forget", epilog="Example: ccfallback providers forget openrouter")(edit.forget)
