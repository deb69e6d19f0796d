"""Every bench runs from its start to its figures, on next to no work."""

import importlib

import pytest

from bench.__main__ import FIGURES, LONG, OTHERS
from bench.figure import Scale

_LEAST = Scale(pairs=1, seconds=0.3, share=0.001)
_WITH_VLLM = ("batch", "serve", "submit", "memory")


def _named(name: str) -> object:
    return pytest.param(name, marks=pytest.mark.vllm) if name in _WITH_VLLM else name


@pytest.mark.parametrize("name", [_named(name) for name in (*FIGURES, *LONG, *OTHERS) if name != "gpu"])
@pytest.mark.timeout(300)
async def test_it_measures(name: str) -> None:
    figures = await importlib.import_module(f"bench.{name}").run(_LEAST)

    assert figures
    assert all(figure.judged for figure in figures)
