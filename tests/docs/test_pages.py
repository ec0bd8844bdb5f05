"""The pages for those who come from elsewhere or look for something run as they stand; docs/README.md has all pages."""

import re

import pytest

from tests.helpers.pages import DOCS, run_page

# Of each page what its commands have to have printed, in order.
PAGES = {
    "from_brax.md": ("16 settings have the same name", "policy.pt: TorchScript", "policy.pt: TorchScript"),
    "from_rsl_rl.md": ("num_mini_batches = 4", "max_iterations: 3", "policy.pt: TorchScript"),
    "from_sb3.md": ("batch_size = 64 transitions", "clip_obs", "policy.pt: TorchScript"),
    "fine_tune.md": (
        *("policy.pt: TorchScript",) * 3,
        "note: learning_rate is 0.0001 from here on; it was 0.0003",
        "policy.pt: TorchScript",
        "note: an exported policy has no value network",
        "policy.pt: TorchScript",
    ),
    "environments.md": ("policy.pt: TorchScript", "make_env: return"),
    "evaluate.md": ("policy.pt: TorchScript", "cartpole: return", "cartpole: return"),
    "episodes.md": ("policy.pt: TorchScript", "cartpole: return"),
    "plot.md": ("runs/first/report.html", "comparison.html", "kl.png"),
    "troubleshooting.md": ("warning: all envs start anew", "warning: the run is"),
}


@pytest.mark.parametrize("page", PAGES)
def test_the_page_as_written(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    printed = run_page(DOCS / page, monkeypatch, capsys)
    assert re.search(".*".join(map(re.escape, PAGES[page])), printed, re.DOTALL), printed


ROOT = DOCS.parent
MARKDOWN = [ROOT / "README.md", *sorted(DOCS.glob("**/*.md")), *sorted(ROOT.glob("tests/**/*.md"))]


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_are_short(page):
    """Of prose: code and tables may be longer, and what has no space to break at."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    long = [line for line in prose.splitlines() if len(line) > 100 and not line.startswith(("|", "!["))]
    assert not [line for line in long if max(map(len, line.split())) < 90]


def test_the_index_has_every_page():
    index = (DOCS / "README.md").read_text()
    for page in DOCS.glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index, page.name
