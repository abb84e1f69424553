"""What the benchmarks print: medians of several runs, and the tables made of them."""

from tests.benchmarks.failover import FAULTS, Column, Felt
from tests.benchmarks.report import Figure, definitions, markdown, medians, summary


def runs() -> list[list[Figure]]:
    """Three runs of two figures."""
    return [
        [
            Figure.value(
                "added p50, 2 kB", {"ccfallback": {"p": ours}, "nginx": {"p": nginx}}, "p", "µs"
            ),
            Figure.single("memory, idle", ours / 10, "MiB"),
        ]
        for ours, nginx in ((300.0, 100.0), (200.0, 80.0), (280.0, 200.0))
    ]


def test_each_figure_is_the_median_of_the_runs() -> None:
    added, memory = medians(runs())
    assert added.values == {"ccfallback": 280.0, "nginx": 100.0}
    assert added.times_nginx == 2.5
    assert memory.values == {"ccfallback": 28.0}
    assert memory.times_nginx is None


def test_the_summary_is_a_markdown_table_that_names_the_machine() -> None:
    text = summary(medians(runs()), {"cpu": "a CPU", "python": "3.11"}, 3)
    assert text.splitlines() == [
        "| a CPU, Python 3.11, median of 3 runs | ccfallback | nginx |",
        "|---|---:|---:|",
        "| added to a request of 2 kB | 280 µs | 100 µs |",
        "| memory | 28 MiB |  |",
    ]
    assert summary([], {"cpu": "a CPU", "python": "3.11"}, 1) == ""


def test_the_help_page_lists_every_figure() -> None:
    assert definitions(medians(runs())) == (
        "added p50, 2 kB\n: 280 µs; nginx 100 µs, ratio 2.5.\n\nmemory, idle\n: 28 MiB."
    )


def test_a_failover_is_told_by_what_it_adds() -> None:
    names = [fault.name for fault in FAULTS]
    felt = {**dict.fromkeys(names), names[0]: Felt(0.21, 1), names[1]: Felt(0.9, 2)}
    column = Column("x", 0.2, felt)
    cells = [column.cell(fault) for fault in FAULTS[:3]]
    assert cells == ["+10.0 ms (1.05 x)", "+700.0 ms (4.50 x, asked again)", "lost"]
    assert markdown([["", "x"], *zip(names, cells, strict=False)]).count("\n") == 4
