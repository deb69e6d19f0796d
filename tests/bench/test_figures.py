"""The benches that are quick to set up run from their start to their figures, on next to no work."""

import importlib

import pytest

from bench.figure import Scale

_LEAST = Scale(pairs=1, seconds=0.3, share=0.001)


@pytest.mark.parametrize("name", ["latency", "pipeline", "watching"])
@pytest.mark.timeout(300)
async def test_it_measures(name: str) -> None:
    figures = await importlib.import_module(f"bench.{name}").run(_LEAST)

    assert figures
    assert all(figure.judged for figure in figures)
