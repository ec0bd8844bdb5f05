"""metrics.jsonl: valid JSON whatever the numbers, read whatever became of it, and cut without a moment of loss."""

import json
import math

import pytest

from torch_ppo.running.history import cut_history, from_line, read_curve, read_history, to_line


def rows(*steps):
    return b"".join(to_line(step, {"eval/episode_reward": float(step)}) for step in steps)


def test_what_is_no_number_is_valid_json_and_comes_back():
    metrics = {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1e-300}
    line = to_line(7, metrics)

    def refuse(constant):
        raise AssertionError(constant)

    plain = json.loads(line, parse_constant=refuse)
    assert plain["a"] is None and plain["not_finite"] == {"a": "NaN", "b": "Infinity", "c": "-Infinity"}
    back = from_line(line)
    assert math.isnan(back.pop("a"))
    assert back == {"step": 7, "b": math.inf, "c": -math.inf, "d": 1e-300}


FOREIGN = [b"5\n", b"[1]\n", b'{"step": "x"}\n', b"\xff\n", b'{"step": 43\n', b"\n", b'{"step": 1, "not_finite": 3}\n']
FOREIGN += [b"[" * 100_000 + b"\n", b'{"a": 1}\n', b'{"step": true}\n']
FOREIGN += [b'{"step": %s}\n' % (b"9" * 400), b'{"step": 1, "training/v_loss": %s}\n' % (b"9" * 400)]


@pytest.mark.parametrize("line", FOREIGN, ids=range(len(FOREIGN)))
def test_foreign_lines_are_passed_over_and_said(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(rows(0, 10) + line + rows(20, 30))
    assert read_curve(path) == [(0, 0.0), (10, 10.0), (20, 20.0), (30, 30.0)]
    (note,) = cut_history(path, 20)
    assert "has a line that is no report" in note and "metrics.jsonl" in note
    assert path.read_bytes() == rows(0, 10) + line + rows(20)


@pytest.mark.parametrize("torn", [b'{"step": 30, "eval/ep', b"{", rows(30)[:-1]])
def test_a_torn_end_is_cut(tmp_path, torn):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(rows(0, 10, 20) + torn)
    assert cut_history(path, 20) == []
    assert path.read_bytes() == rows(0, 10, 20)
    assert cut_history(path, -1) == [] and path.read_bytes() == b""


def test_a_whole_report_without_its_newline_is_kept(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(rows(0, 10)[:-1])
    assert cut_history(path, 10) == [] and path.read_bytes() == rows(0, 10)


def test_what_is_kept_is_not_written_again(tmp_path, monkeypatch):
    """Else a kill in that moment would lose it."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(rows(0, 10, 20))
    before = path.stat().st_ino
    monkeypatch.setattr("pathlib.Path.write_text", None)
    monkeypatch.setattr("pathlib.Path.write_bytes", None)
    cut_history(path, 10)
    assert path.stat().st_ino == before and path.read_bytes() == rows(0, 10)


def test_old_files_with_bare_nan_are_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "eval/episode_reward": NaN}\n')
    assert math.isnan(read_history(path)[0]["eval/episode_reward"])
    assert read_history(tmp_path / "nothing") == []
