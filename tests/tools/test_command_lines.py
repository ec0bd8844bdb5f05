"""What the programs of a checkout say of a command line that they cannot read: one line, as the others do."""

import importlib
import importlib.util
import sys

import pytest

TOOLS = (
    "bench bench_choices bench_devices bench_physics bench_views beside_brax compare_brax compare_busy compare_gym "
    "compare_peers count_launches deploy_latency plot_bands plot_curves plot_strip plot_tasks plot_views pretrained size_buffers soak "
    "track_command warp_kernels"
).split()


def ended(monkeypatch, capsys, tool, *words):
    """Exit status, output and errors of a program that ends by itself."""
    if tool.startswith("plot_") and importlib.util.find_spec("matplotlib") is None:
        pytest.skip("matplotlib is not installed")
    monkeypatch.setattr(sys, "argv", [tool, *map(str, words)])
    with pytest.raises(SystemExit) as end:
        importlib.import_module(f"tools.{tool}").main()
    return end.value.code, *capsys.readouterr()


@pytest.mark.parametrize("tool", TOOLS)
def test_no_such_option(monkeypatch, capsys, tool):
    code, _, said = ended(monkeypatch, capsys, tool, "--qqqqqq")
    assert (code, said) == (2, f"error: there is no option --qqqqqq; python -m tools.{tool} --help has them all\n")


@pytest.mark.parametrize("tool", TOOLS)
def test_help(monkeypatch, capsys, tool):
    code, printed, _ = ended(monkeypatch, capsys, tool, "--help")
    assert code in (None, 0) and printed.startswith(f"usage: python -m tools.{tool} ")


@pytest.mark.parametrize(
    ("tool", "words", "what"),
    [
        ("bench", ("--config", "nonsense"), "there is no configuration 'nonsense'"),
        ("bench", ("--set", "lr=1"), "unknown key 'lr' in --set; it is learning_rate here"),
        ("bench", ("--set", "capture=unroll"), "--set is not valid TOML"),
        ("bench", ("--set", "num_envs=1.5"), "num_envs is 1.5, but must be an int"),
        ("bench", ("--windows", 0), "windows is 0, but must be 1 or more"),
        ("bench", ("--num-envs", 64, 0), "num_envs is 0, but must be 1 or more"),
        ("bench_choices", ("--windows", 0), "windows is 0, but must be 1 or more"),
        ("bench_choices", ("--num-envs", 0), "num_envs is 0, but must be 1 or more"),
        (
            "bench_choices",
            ("--choices", "kept", "none"),
            "choices is 'none', but must be one of 'kept', 'combo-kernels', ",
        ),
        (
            "compare_brax",
            ("--brax-python", "python", "--impl", "torch"),
            "impl is 'torch', but must be one of 'jax', 'warp'",
        ),
        ("bench_devices", ("--rounds", 0), "rounds is 0, but must be 1 or more"),
        ("bench_devices", ("--reports", 1), "reports is 1, but must be 2 or more"),
        ("bench_physics", ("--rounds", 0), "rounds is 0, but must be 1 or more"),
        ("bench_physics", ("--seconds", "nan"), "seconds is nan, but must be a finite number"),
        ("bench_views", ("--size", -1), "size is -1, but must be 1 or more"),
        ("beside_brax", ("folder", "--seeds", 0, 1, 0), "0 is there twice; --seeds 0 1 would work"),
        ("compare_busy", ("--rounds", 0), "rounds is 0, but must be 1 or more"),
        ("compare_gym", ("--num-envs", 0), "num_envs is 0, but must be 1 or more"),
        ("compare_peers", ("--rounds", 0), "rounds is 0, but must be 1 or more"),
        ("plot_strip", ("run", "--seconds", 0), "seconds is 0.0, but must be 0.01 or more"),
        ("plot_strip", ("run", "--columns", 0), "columns is 0, but must be 1 or more"),
        ("plot_views", ("--width", 0), "width is 0, but must be 1 or more"),
        ("size_buffers", ("--steps", 0), "steps is 0, but must be 1 or more"),
        ("soak", ("--minutes", 0), "minutes is 0.0, but must be 0.01 or more"),
        ("track_command", ("run", "--seed", -1), "seed is -1, but must be 0 or more"),
        ("track_command", ("run", "--forward", "fast"), "forward is 'fast', but must be a float"),
        ("bench_devices", ("--set", "compile"), "--set compile is not understood; --set compile=VALUE would be"),
        ("bench_physics", ("--env", "nonsense"), "there is no env 'nonsense'"),
        ("bench_views", ("--task", "cartpole"), "cartpole has no views"),
        ("compare_busy", ("--set", "torch_threads=3"), "torch_threads is compared; --torch-threads 1 2 says which"),
        ("deploy_latency", (), "RUN is missing"),
        ("deploy_latency", ("nowhere",), "nowhere has no policy.safetensors, policy.pt, policy.pt2, policy.onnx"),
        ("plot_bands", ("nowhere",), "nowhere has no "),
        ("plot_curves", (), "RUNS is missing"),
        ("plot_curves", ("nowhere",), "nowhere has no evaluations"),
        ("plot_tasks", ("nowhere",), "nowhere has no evaluations"),
        ("pretrained", ("walker_wlk",), "no policy comes along for 'walker_wlk'; did you mean 'walker_walk'?"),
    ],
)
def test_what_cannot_be(monkeypatch, capsys, tmp_path, tool, words, what):
    monkeypatch.chdir(tmp_path)
    code, _, said = ended(monkeypatch, capsys, tool, *words)
    assert code == 2 and said.count("\n") == 1 and said.startswith(f"error: {what}")
