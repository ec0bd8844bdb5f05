"""The options of training as people write them, turned into the one way that the program reads.

`1e6` for an int, `--flag=true`, `64,64` for sizes, underscores, and the names that the scripts of MuJoCo
Playground, Brax and Isaac Lab have. What is not certain is a ConfigError with the spelling that works.
"""

import math
import re
import types
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal

from torch_ppo.command import called
from torch_ppo.errors import ConfigError, did_you_mean
from torch_ppo.settings.checks import check_type

# What has another name here, and means the same.
RENAMED = {
    "domain-randomization": "randomize",
    "engine": "physics",
    "env-name": "env",
    "impl": "physics",
    "load-checkpoint-path": "restore-checkpoint-path",
    "task": "env",
}
# What other scripts have and this one has not: what would do.
ELSEWHERE = {
    "algo": "all is PPO; leave it out",
    "capture-video": "--video-every 1 makes a clip at every evaluation",
    "cuda": "--device cuda says so; without it a CUDA device is taken where there is one",
    "eval-env": "evaluation has the task of training; the library call takes another one, torch_ppo.train(eval_env=...)",
    "experiment-name": "--run-dir FOLDER names the folder of the run",
    "gpu": "--device cuda says so; without it a CUDA device is taken where there is one",
    "headless": "nothing is drawn while a run goes on; leave it out",
    "log-dir": "--run-dir FOLDER names the folder of the run",
    "logdir": "--run-dir FOLDER names the folder of the run",
    "logger": "files for TensorBoard are always written, and --tracker wandb sends them to W&B",
    "max-iterations": "--num-timesteps counts env steps; of each iteration they are num_envs * unroll_length",
    "network-factory": "networks have options of their own, such as --policy-hidden-layer-sizes 64 64",
    "num-videos": "--video-every 1 makes a clip at every evaluation, {play} RUN_FOLDER --video a.gif one afterwards",
    "play-only": "{play} RUN_FOLDER plays what was trained",
    "playground-config-overrides": "each setting has an option of its own, such as --action-repeat 2",
    "render": "{play} RUN_FOLDER shows what was trained",
    "rscope-envs": "{play} RUN_FOLDER shows what was trained",
    "run-name": "--run-dir FOLDER names the folder of the run",
    "suffix": "--run-dir FOLDER names the folder of the run",
    "track": "--tracker wandb does that",
    "use-tb": "files for TensorBoard are always written; leave it out",
    "use-wandb": "--tracker wandb does that; else leave it out",
    "video": "--video-every 1 makes a clip at every evaluation, {play} RUN_FOLDER --video a.gif one afterwards",
    "wandb": "--tracker wandb does that",
}
# Other libraries' words for settings of ours. Some are in other units (docs/dialects.md), so they are told and not taken.
THEIRS = {
    "clip_coef": "clipping_epsilon",
    "clip_param": "clipping_epsilon",
    "clip_range": "clipping_epsilon",
    "e_clip": "clipping_epsilon",
    "ent_coef": "entropy_cost",
    "entropy_coef": "entropy_cost",
    "gamma": "discounting",
    "horizon_length": "unroll_length",
    "lam": "gae_lambda",
    "learning_epochs": "num_updates_per_batch",
    "lr": "learning_rate",
    "mini_epochs": "num_updates_per_batch",
    "n_envs": "num_envs",
    "n_epochs": "num_updates_per_batch",
    "n_steps": "unroll_length",
    "n_timesteps": "num_timesteps",
    "num_learning_epochs": "num_updates_per_batch",
    "num_steps": "unroll_length",
    "num_steps_per_env": "unroll_length",
    "steps": "num_timesteps",
    "tau": "gae_lambda",
    "total_timesteps": "num_timesteps",
    "update_epochs": "num_updates_per_batch",
    "vf_coef": "vf_loss_coefficient",
}
TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
HELP = ("-h", "--help")


def rename(words: Sequence[str], own: Collection[str] = ()) -> list[str]:
    """Options under the names that they have here; those that a program has itself, `own`, as they are."""
    renamed = []
    for word in words:
        flag, equals, value = word.partition("=")
        name = name_of(flag)
        renamed.append(
            f"--{RENAMED[name]}{equals}{value}"
            if flag.startswith("--") and name in RENAMED and name not in own
            else word
        )
    return renamed


def respell(words: Sequence[str], kinds: Mapping[str, object]) -> list[str]:
    """The same options as the program reads them. A first word without an option is the task, `--env`.

    kinds:  type of each option, by the name of its field
    """
    kinds = {name.replace("_", "-"): kind for name, kind in kinds.items()}
    try:
        return [word for flag, values, _ in options_in(rename(words)) for word in _respelled(flag, values, kinds)]
    except ConfigError as error:
        raise ConfigError(" ".join(str(error).split())) from None  # one line, whatever was typed


def _respelled(flag: str, values: list[str], kinds: Mapping[str, object]) -> list[str]:
    if flag in HELP:
        return [flag]
    if flag:
        return option(known(name_of(flag), kinds, "train", ELSEWHERE), values, kinds)
    if len(values) > 1:
        raise ConfigError(f"what is {' '.join(values[1:])}? Options begin with --, such as --num-envs 64")
    return ["--env", *values]


def name_of(flag: str) -> str:
    return flag.removeprefix("--").replace("_", "-")


def options_in(words: Sequence[str]) -> Iterator[tuple[str, list[str], bool]]:
    """Each option with what follows it, and whether that begins after an =; "" for what comes before the first."""
    flag, values, joined = "", [], False
    for word in words:
        if word.startswith("--") or word in HELP:
            if flag or values:
                yield flag, values, joined
            flag, equals, value = word.partition("=")
            values, joined = [value] if equals else [], bool(equals)
        else:
            values.append(word)
    if flag or values:
        yield flag, values, joined


def known(name: str, kinds: Mapping[str, object], program: str, elsewhere: Mapping[str, str]) -> str:
    """The name of an option as `program` knows it; absl's --noflag is --no-flag. ConfigError if there is none.

    elsewhere:  what to say of options that only others have
    """
    positive = name.removeprefix("no").removeprefix("-")
    if name in kinds or (name.startswith("no-") and kinds.get(positive) is bool):
        return name
    if name.startswith("no") and kinds.get(RENAMED.get(positive, positive)) is bool:
        return f"no-{RENAMED.get(positive, positive)}"
    for spelled in (name, positive):
        if spelled in elsewhere:
            raise ConfigError(f"there is no --{name} here: {elsewhere[spelled].format(play=called('play'))}")
    ours = THEIRS.get(name.replace("-", "_"), "").replace("_", "-")
    hint = f"; it is --{ours} here" if ours in kinds else did_you_mean(name, kinds, "--")
    if hint.startswith("; known"):  # all of them would be no help
        hint = f"; {called(program)} --help has them all"
    raise ConfigError(f"there is no option --{name}{hint}")


def option(name: str, values: list[str], kinds: Mapping[str, object]) -> list[str]:
    """An option and its values, as the program reads them. ConfigError for values that it cannot have."""
    kind = kinds.get(name, bool)
    if kind is bool:
        if not values:
            return [f"--{name}"]
        if len(values) > 1 or values[0].lower() not in TRUTH or name not in kinds:
            raise ConfigError(
                f"--{name} {' '.join(values)} is not understood; --{name} alone says yes, --no-{name} says no"
                if name in kinds
                else f"--{name} stands alone, without {' '.join(values)}"
            )
        return [f"--{name}" if TRUTH[values[0].lower()] else f"--no-{name}"]
    element = element_of(kind)
    if element is int:
        values = " ".join(values).translate(str.maketrans("()[],", "     ")).split()
    if not values:
        raise ConfigError(f"--{name} needs a value")
    if element is None and len(values) > 1:
        raise ConfigError(f"--{name} takes one value, not {' '.join(values)}")
    return [f"--{name}", *(value(name, each, kind) for each in values)]


def _alternatives(kind: object) -> tuple[object, ...]:
    """The types of a union, or the only one."""
    return typing.get_args(kind) if typing.get_origin(kind) in (types.UnionType, typing.Union) else (kind,)


def element_of(kind: object) -> object | None:
    """What a list has in it, where an option takes one; None where it takes one value."""
    lists = [each for each in _alternatives(kind) if typing.get_origin(each) is tuple]
    return typing.get_args(lists[0])[0] if lists else None


def value(name: str, text: str, kind: object) -> str:
    """A value as it is read; ConfigError if it is none of this kind."""
    kinds = _alternatives(kind)
    if types.NoneType in kinds and text.lower() in ("none", "null"):
        return "None"
    for each in kinds:
        one = each if element_of(each) is None else element_of(each)
        if typing.get_origin(one) is Literal:
            same = [choice for choice in typing.get_args(one) if choice.lower() == text.lower()]
            return same[0] if same else _refuse(name, text, kind if one is each else one)
        if each is int or element_of(each) is int:
            return str(_whole(text)) if _whole(text) is not None else _refuse(name, text, int)
        if each is float or element_of(each) is float:
            try:
                return repr(float(_plain(text)))
            except ValueError:
                _refuse(name, text, float if element_of(each) else kind)
    return text


def _plain(text: str) -> str:
    """A number without the commas of its thousands. Another comma is none of these: 64,64 or 0,5 is no number."""
    return text.replace(",", "") if re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d*)?", text) else text


def _whole(text: str) -> int | None:
    """1000000, 1_000_000, 1,000,000 or 1e6 as an int; None for what is not whole."""
    text = _plain(text)
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None


_UNITS = {"k": 1_000, "m": 1_000_000}


def _meant(text: str, kind: object) -> str:
    """ "; 1000 would work" for what is nearly a number, such as 1k, 0,5 or one with a comma after it; else empty."""
    bare = text.rstrip(",;")
    unit = 1 if float in _alternatives(kind) else _UNITS.get(bare[-1:].lower(), 1)  # 1m of a rate may be a thousandth
    bare = (bare if unit == 1 else bare[:-1]).replace(",", ".")
    try:
        number = float(bare) * unit
    except ValueError:
        return ""
    if not math.isfinite(number) or (float not in _alternatives(kind) and not number.is_integer()):
        return ""
    return f"; {bare if unit == 1 else f'{number:.12g}'} would work"


def _refuse(name: str, text: str, kind: object) -> typing.NoReturn:
    try:
        check_type(name.replace("-", "_"), text, kind)
    except ConfigError as error:
        raise ConfigError(f"{error}{_meant(text, kind)}") from None
    raise AssertionError(f"{text!r} is refused, but would pass as {kind}")
