"""A run on one page and runs compared: the numbers that are drawn are those that the runs reported."""

import html.parser
import importlib.util
import json
import sys

import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from torch_ppo import doctor, plot, train
from torch_ppo.errors import ConfigError
from torch_ppo.plot import PlotArguments, draw_comparison, make_report
from torch_ppo.running.comparing import find_runs, grouped, text_table, verdicts
from torch_ppo.settings.files import load_config, to_toml
from torch_ppo.showing.curves import COLOURS, PANELS, PlotError
from torch_ppo.showing.report import draw_report

STEPS = [0, 500_000, 1_000_000]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A real run of a second."""
    folder = tmp_path_factory.mktemp("plot") / "cartpole"
    options = "--num-timesteps 2000 --num-evals 3 --num-envs 8 --unroll-length 5 --batch-size 8 --num-minibatches 2"
    options += " --num-eval-envs 2 --episode-length 20 --device cpu --run-dir"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train", "--env", "cartpole", *options.split(), str(folder)])
        train.main()
    return folder


def made(folder, rewards, **settings):
    """A run's folder with these rewards at `STEPS`."""
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(to_toml(load_config("cartpole_cpu", **settings)))
    rows = [
        {
            "step": step,
            "eval/episode_reward": reward,
            "eval/episode_reward_std": 2.0,
            "training/approx_kl": reward / 1e4,
        }
        for step, reward in zip(STEPS, rewards, strict=True)
    ]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def program(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["plot", *map(str, arguments)])
    plot.main()
    return capsys.readouterr().out


class Page(html.parser.HTMLParser):
    """What a page's pictures are, what else it would load, and its words."""

    def __init__(self, text):
        super().__init__()
        self.pictures, self.links, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag == "img":
            self.pictures.append(found["src"])
        self.links += [value for name, value in attributes if name in ("href", "src") and tag != "img"]

    def handle_data(self, data):
        self.words.append(data)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_report_of_a_run(trained, monkeypatch, capsys):
    """Two files in the run's folder; the page needs no other file, and has what the doctor says."""
    printed = program(monkeypatch, capsys, trained)
    assert printed.splitlines()[-2:] == [str(trained / "report.png"), str(trained / "report.html")]
    page = Page((trained / "report.html").read_text())
    kinds = [picture.partition(";base64,")[0] for picture in page.pictures]
    assert kinds == ["data:image/svg+xml", "data:image/png", "data:image/png", "data:image/svg+xml"] and not page.links
    text = " ".join(page.words)
    assert "cartpole, seed 0" in text and "unroll_length" in text
    for line in doctor.report(trained).splitlines():
        if line.startswith("* "):
            assert line.removeprefix("* ") in text


def test_what_the_report_draws(trained):
    """Every line has the numbers of metrics.jsonl, on an axis in env steps."""
    (run,) = find_runs([trained])
    report = make_report(run, PlotArguments(runs=(trained,), frame=False))
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    curve, *rest = [axes for axes in draw_report(report).axes if axes.axison]
    assert curve.lines[0].get_ydata().tolist() == [row["eval/episode_reward"] for row in rows]
    assert curve.lines[0].get_xdata().tolist() == [row["step"] for row in rows]
    assert (curve.get_xlabel(), curve.get_ylabel()) == ("env steps", "return of an episode")
    by_title = {axes.get_title(loc="left"): axes for axes in rest}
    metrics = {panel.title: panel.metric for panel in PANELS}
    assert {"KL of updates (nats)", "value loss", "speed (env steps/s)"} <= by_title.keys() <= metrics.keys()
    for title, axes in by_title.items():
        drawn = axes.lines[0].get_ydata().tolist()
        assert drawn == [row[metrics[title]] for row in rows if metrics[title] in row], title


def test_successes_on_the_page(tmp_path):
    """Of a task that tells them; what is asked of a policy that reaches for something is how often it does."""
    folder = made(tmp_path / "a", [1.0, 9.0, 5.0])
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row, share in zip(rows, (0.25, 0.75, 0.5), strict=True):
        row["eval/success_rate"] = share
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (run,) = find_runs([folder])
    drawn = {
        axes.get_title(loc="left"): axes
        for axes in draw_report(make_report(run, PlotArguments(runs=(), frame=False))).axes
    }
    assert drawn["successes (share of episodes)"].lines[0].get_ydata().tolist() == [0.25, 0.75, 0.5]


def test_settings_on_the_page_are_those_that_differ(tmp_path):
    (run,) = find_runs([made(tmp_path / "a", [1.0, 9.0, 5.0], learning_rate=0.25)])
    report = make_report(run, PlotArguments(runs=(), frame=False))
    settings = {name: (value, default) for name, value, default in report.settings}
    assert settings["learning_rate"] == ("0.25", "0.0001") and "gae_lambda" not in settings and "seed" not in settings
    assert "best return 9.0 at 500,000 env steps; last 5.0 at 1,000,000" in report.summary[1]


def test_two_runs(tmp_path):
    """A line and a band for each, in colours of their own, named by the setting that differs."""
    for name, rate in (("a", 0.25), ("b", 0.5)):
        made(tmp_path / name, [1.0, rate * 100, 50.0], learning_rate=rate)
    groups = grouped(find_runs([tmp_path]))
    figure = draw_comparison(groups, ("eval/episode_reward", "training/approx_kl"), "", text_table(groups))
    returns, kl = figure.axes
    assert [line.get_ydata().tolist() for line in returns.lines] == [[1.0, 25.0, 50.0], [1.0, 50.0, 50.0]]
    assert [line.get_color() for line in returns.lines] == list(COLOURS[:2])
    assert [text.get_text() for text in returns.get_legend().get_texts()] == ["learning_rate 0.25", "learning_rate 0.5"]
    assert [line.get_xdata().tolist() for line in kl.lines] == [[0.0, 0.5, 1.0]] * 2
    assert kl.get_xlabel() == "env steps (millions)" and kl.get_ylabel() == "training/approx_kl"
    band = next(each for each in returns.collections if isinstance(each, PolyCollection)).get_paths()[0].vertices
    assert {-1.0, 3.0, 23.0, 27.0, 48.0, 52.0} == set(band[:, 1].tolist())
    assert text_table(groups)[-1].split() == ["learning_rate", "0.25", "0.5"]


def test_seeds_are_one_line(tmp_path):
    """Their interquartile mean, with each of them behind it, and whether variants differ."""
    for rate, level in ((0.25, 0.0), (0.5, 1000.0)):
        for seed in range(4):
            made(tmp_path / f"{rate}" / f"seed{seed}", [0.0, 1.0, level + seed**2], learning_rate=rate, seed=seed)
    groups = grouped(find_runs([tmp_path]))
    axes = draw_comparison(groups, ("eval/episode_reward",), "", ()).axes[0]
    labelled = [line for line in axes.lines if line.get_label()[0] != "_"]
    assert [line.get_ydata().tolist() for line in labelled] == [[0.0, 1.0, 2.5], [0.0, 1.0, 1002.5]]
    assert len(axes.lines) == 2 * 5
    (said,) = verdicts(groups)
    assert said.endswith("last return: +1000.0, p = 0.029: a difference")
    assert [line.split() for line in text_table(groups)[2:4]] == [
        ["last", "return", "2.5", "(0.0", "to", "9.0)", "1,002.5", "(1,000.0", "to", "1,009.0)"],
        ["seeds", "4", "4"],
    ]


def test_runs_of_different_lengths_share_an_axis(tmp_path):
    """A short one first: in the unit of the longest, whose end is on the axis; a metric that one lacks moves no colour."""
    short, long = (made(tmp_path / name, [1.0, 2.0, 3.0], learning_rate=n) for name, n in (("a", 0.25), ("b", 0.5)))
    rows = [{"step": step, "eval/episode_reward": 1.0} for step in (0, 20_000)]
    (short / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    metrics = ("eval/episode_reward", "training/approx_kl")
    returns, kl = draw_comparison(grouped(find_runs([short, long])), metrics, "", ()).axes
    assert [line.get_xdata().tolist() for line in returns.lines] == [[0.0, 0.02], [0.0, 0.5, 1.0]]
    assert returns.get_xlabel() == "env steps (millions)" and returns.get_xlim()[1] > 1.0
    assert [line.get_color() for line in kl.lines] == [COLOURS[1]]


def test_many_runs(tmp_path):
    """The table is turned where it would be too wide, and the legend is beside the plot, not on it."""
    for rate in range(1, 10):
        made(tmp_path / f"run{rate}", [0.0, 1.0, 100.0 * rate], learning_rate=rate / 8)
    groups = grouped(find_runs([tmp_path]))
    table = text_table(groups, width=100)
    assert [line.split() for line in table[:2]] == [
        ["best", "return", "last", "return", "learning_rate"],
        ["learning_rate", "0.125", "100.0", "100.0", "0.125"],
    ]
    assert len(text_table(groups)) == 4
    narrow = text_table(groups, width=50)
    assert narrow[0].split() == ["best", "return", "last", "return"] and max(map(len, narrow)) <= 50
    assert len(narrow) == 11 and narrow[-1] == "and 1 more settings"
    figure = draw_comparison(groups, ("eval/episode_reward",), "", table)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    assert axes.get_legend().get_window_extent().x0 > axes.get_window_extent().x1
    looks = {(line.get_color(), line.get_linestyle()) for line in axes.lines}
    assert len(axes.lines) == len(looks) == 9


def test_a_run_without_evaluations(tmp_path):
    """Its curve is that of the episodes of training."""
    folder = made(tmp_path / "a", [1.0, 2.0, 3.0])
    rows = [{"step": step, "training/episode_reward": 2.0 * step} for step in STEPS[1:]]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    report = make_report(find_runs([folder])[0], PlotArguments(runs=(), frame=False))
    assert report.ylabel == "return of an episode in training" and report.curve.values == [1e6, 2e6]


def test_a_gap_where_a_number_is_none(tmp_path):
    folder = made(tmp_path / "a", [1.0, 2.0, 3.0])
    rows = (folder / "metrics.jsonl").read_text().replace('2.0, "training', 'null, "training', 1)
    bad = {"step": 2_000_000, "eval/episode_reward": None, "not_finite": {"eval/episode_reward": "NaN"}}
    (folder / "metrics.jsonl").write_text(f"{rows}\n{json.dumps(bad)}\n")
    (run,) = find_runs([folder])
    report = make_report(run, PlotArguments(runs=(), frame=False))
    (line, *_) = draw_report(report).axes[0].lines
    assert np.isnan(line.get_ydata()[-1]) and "last 3.0 at 1,000,000" in report.summary[1]


def test_files_of_every_kind(tmp_path, monkeypatch, capsys):
    """Also of a bare metrics.jsonl, without settings; the same numbers are the same file."""
    folder = made(tmp_path / "a", [1.0, 2.0, 3.0])
    (folder / "config.toml").unlink()
    names = [tmp_path / f"x.{kind}" for kind in ("svg", "png", "html")]
    program(monkeypatch, capsys, folder / "metrics.jsonl", "--curves", "--output", *names)
    svg, png, page = (name.read_bytes() for name in names)
    assert svg.startswith(b"<?xml") and png.startswith(b"\x89PNG") and len(Page(page.decode()).pictures) == 1
    program(monkeypatch, capsys, folder, "--curves", "--output", tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == png


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "there is no run nowhere"),
        (["."], "has no metrics.jsonl"),
        (["a", "--output", "x.pdf"], "x.pdf has to end in .png, .svg or .html"),
        (["a", "--output", "nowhere/x.png"], "there is no folder nowhere"),
        (["a", "--metrics", "training/approx_kl"], "--curves would draw them"),
        (["a", "--curves", "--metrics", "eval/episode_rewar"], "did you mean 'eval/episode_reward'"),
    ],
)
def test_mistakes(arguments, words, tmp_path, monkeypatch, capsys):
    if arguments[0] == "a":
        made(tmp_path / "a", [1.0, 2.0, 3.0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["plot", *arguments])
    with pytest.raises(SystemExit, match="2"):
        plot.main()
    assert words in capsys.readouterr().err and not list(tmp_path.glob("*.p*"))


def test_without_matplotlib(tmp_path, monkeypatch):
    """The message has the line that installs it."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else found(name))
    groups = grouped(find_runs([made(tmp_path / "a", [1.0, 2.0, 3.0])]))
    with pytest.raises(PlotError, match=r"matplotlib, the extra plot: pip install '\.\[plot\]'"):
        draw_comparison(groups, ("eval/episode_reward",), "", ())


def test_an_empty_history_is_said(tmp_path):
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(ConfigError, match="has no report of a run"):
        find_runs([tmp_path])
