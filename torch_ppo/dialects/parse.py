"""Settings out of a text: TOML, JSON, YAML, a command line, or Python as it is pasted from a paper's code.

Nothing is executed. Of Python only literals are understood: numbers and their arithmetic, strings, lists,
dictionaries, and calls with keywords (`dict(...)`, `config_dict.create(...)`, `PPO(...)`), which stand for their
keywords. A name that is not a literal (`env`, `nn.Tanh`) becomes a `Symbol`.
"""

import ast
import json
import operator
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

from torch_ppo.errors import ConfigError, install

Settings = dict[str, object]


class Symbol(str):
    """A name or other code of which the value is not in the text, for example env_config.episode_length."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


ARITHMETIC: dict[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}
# Calls that give a library's own settings, to be changed: PPO_DEFAULT_CONFIG.copy(), PPO_CFG().
DEFAULTS = (".copy", "CFG", "Cfg")
CONVERSIONS: dict[str, Callable] = {"int": int, "float": float, "tuple": tuple, "list": list}


def _arithmetic(node: ast.BinOp) -> object:
    left, right = literal(node.left), literal(node.right)
    numbers = all(isinstance(value, (int, float)) for value in (left, right))
    if numbers and type(node.op) in ARITHMETIC:
        return ARITHMETIC[type(node.op)](left, right)
    if numbers and isinstance(node.op, ast.Pow) and abs(left) < 1e4 and abs(right) < 64:
        return left**right
    return Symbol(ast.unparse(node))


def _call(node: ast.Call) -> object:
    """The keywords of a call as a dictionary; `int(1e6)` and the like as their value."""
    name = ast.unparse(node.func)
    positional = [literal(argument) for argument in node.args]
    if name in CONVERSIONS and len(positional) == 1 and not node.keywords:
        (value,) = positional
        return Symbol(ast.unparse(node)) if isinstance(value, Symbol) else CONVERSIONS[name](value)
    values: Settings = {}
    for argument in positional:
        # PPO("MlpPolicy", env, ...): what has no keyword is the policy or the env, dict({...}) a dictionary
        if isinstance(argument, dict):
            values.update(argument)
        elif not isinstance(argument, str):
            raise ConfigError(f"{name}(...) has {argument!r} without a keyword; write it as keyword={argument!r}")
    for keyword in node.keywords:
        value = literal(keyword.value)
        if keyword.arg is not None:
            values[keyword.arg] = value
        elif isinstance(value, dict):
            values.update(value)
        else:
            raise ConfigError(f"{name}(...) takes settings from {value}, which the text does not have")
    return values


def literal(node: ast.expr) -> object:
    """The value of an expression, a `Symbol` where it is not a literal."""
    match node:
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand) if isinstance(value := literal(operand), (int, float)):
            return -value
        case ast.BinOp():
            return _arithmetic(node)
        case ast.List(elts=elements) | ast.Tuple(elts=elements) | ast.Set(elts=elements):
            return [literal(element) for element in elements]
        case ast.Dict(keys=keys, values=values) if all(isinstance(key, ast.Constant) for key in keys):
            return {str(key.value): literal(value) for key, value in zip(keys, values, strict=True)}
        case ast.Call(func=function, args=arguments, keywords=keywords):
            if keywords or ast.unparse(function) in CONVERSIONS or any(isinstance(a, ast.Dict) for a in arguments):
                return _call(node)
            if not arguments and ast.unparse(function).endswith(DEFAULTS):
                return {}
    return Symbol(ast.unparse(node))


def _path(target: ast.expr) -> list[str]:
    """`config.algorithm["gamma"]` as its names; empty for anything else."""
    match target:
        case ast.Name(id=name):
            return [name]
        case ast.Attribute(value=value, attr=name) | ast.Subscript(value=value, slice=ast.Constant(value=str(name))):
            return [*path, name] if (path := _path(value)) else []
    return []


def _resolved(value: object, names: Settings, used: set[str]) -> object:
    """`value` with names that were set before in place of their symbols; adds these to `used`."""
    if isinstance(value, dict):
        return {key: _resolved(item, names, used) for key, item in value.items()}
    if isinstance(value, Symbol) and value in names:
        used.add(value)
        return names[value]
    return value


def _statements(body: list[ast.stmt]) -> Settings:
    """What a sequence of assignments amounts to, by name, without those that only serve others.

    Settings of a call that is not assigned, such as model.learn(total_timesteps=1000), have the name "".
    """
    names: Settings = {}
    used: set[str] = set()
    for statement in body:
        match statement:
            case ast.Import() | ast.ImportFrom() | ast.Pass() | ast.Expr(value=ast.Constant(value=str())):
                continue
            case ast.Expr(value=ast.Call() | ast.Dict() as value) if isinstance(literal(value), dict):
                names[""] = {**names.get("", {}), **_resolved(literal(value), names, used)}
            case ast.ClassDef(name=name, body=inner):
                names[name] = _statements(inner)
            case ast.Assign(targets=[target], value=value) | ast.AnnAssign(target=target, value=ast.expr() as value):
                *folders, last = _path(target) or [""]
                place: object = names
                for folder in folders:
                    place = place.get(folder) if isinstance(place, dict) else None
                if not last or not isinstance(place, dict):
                    raise ConfigError(f"line {statement.lineno}: {ast.unparse(target)} is set before it is made")
                place[last] = _resolved(literal(value), names, used)
            case ast.AnnAssign():
                continue
            case _:
                raise ConfigError(
                    f"line {statement.lineno}: {ast.unparse(statement).splitlines()[0]!r} is code, not a setting; "
                    "leave only the settings, such as dict(num_envs=1024)"
                )
    return {name: value for name, value in names.items() if name not in used}


def parse_python(text: str) -> Settings:
    """Settings from Python text: one dictionary with a name, single values, or several dictionaries as sections."""
    names = _statements(ast.parse(text).body)
    calls = names.pop("", {})
    sections = {name: value for name, value in names.items() if isinstance(value, dict) and value}
    values = {name: value for name, value in names.items() if name not in sections}
    inner = next(iter(sections.values())) if len(sections) == 1 else sections
    return {**inner, **values, **calls}


def parse_flags(text: str) -> Settings:
    """Settings from a command line: `--num-envs 8 --anneal-lr --no-norm-adv`."""
    values: Settings = {}
    words = shlex.split(text.replace("\\\n", " "), comments=True)
    flags = [i for i, word in enumerate(words) if word.startswith("--")]
    for i, end in zip(flags, [*flags[1:], len(words)], strict=True):
        name, equals, value = words[i][2:].partition("=")
        name = name.replace("-", "_")
        given = ([value] if equals else []) + words[i + 1 : end]
        if len(given) > 1:
            raise ConfigError(f"--{name} is followed by {' '.join(given)}; a flag has one value")
        if not given:
            values[name.removeprefix("no_")] = not name.startswith("no_")
        else:
            values[name] = scalar(given[0])
    return values


def scalar(word: str) -> object:
    """A number, truth value, None or, failing these, the word itself."""
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    if word.lower() in ("none", "null"):
        return None
    for convert in (int, float):
        try:
            return convert(word)
        except ValueError:
            continue
    return word


NUMBER = re.compile(r"[-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)?")


MAX_VALUES = 100_000  # of a YAML file, aliases written out: nine lines of aliases of aliases would be a billion


def _numbers(value: object, left: Iterator[int]) -> object:
    """YAML 1.1 reads 3e-4 as a word; the trainers turn it into a number, and so do we. "None" is a word there too.

    `left` counts down what may still come.
    """
    if next(left, None) is None:
        raise ConfigError(f"not settings: more than {MAX_VALUES:,} values")
    if isinstance(value, dict):
        return {str(key): _numbers(item, left) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_numbers(item, left) for item in value]
    if isinstance(value, str) and (NUMBER.fullmatch(value) or value == "None"):
        return scalar(value)
    return value


def parse_yaml(text: str) -> Settings:
    """Settings from YAML; needs PyYAML."""
    try:
        import yaml
    except ImportError:
        raise ConfigError(f"YAML needs PyYAML: {install('dialects')}; TOML, JSON and Python do not") from None

    class Loader(yaml.SafeLoader):
        """Safe, and tuples as Isaac Lab writes them."""

    Loader.add_constructor("tag:yaml.org,2002:python/tuple", Loader.construct_sequence)
    try:
        return _numbers(yaml.load(text, Loader), iter(range(MAX_VALUES)))
    except yaml.YAMLError as error:
        raise ConfigError(" ".join(f"not valid YAML: {error}".split())) from None


FORMATS: dict[str, Callable[[str], Settings]] = {
    ".toml": tomllib.loads,
    ".json": json.loads,
    ".py": parse_python,
    ".sh": parse_flags,
    ".yaml": parse_yaml,
    ".yml": parse_yaml,
}


# What a text that is not in a format raises, be it in its own arithmetic.
BROKEN = (
    ValueError, TypeError, SyntaxError, RecursionError, ArithmeticError, MemoryError, AttributeError, LookupError,
)  # fmt: skip


def guess_format(text: str) -> str:
    """The ending of the format that a text without one looks to be in."""
    for ending in (".json", ".toml", ".py"):
        try:
            if FORMATS[ending](text):  # flat YAML is Python too, annotations without values
                return ending
        except ConfigError:
            return ending
        except BROKEN:
            continue
    return ".sh" if re.search(r"(^|\s)--\w", text) else ".yaml"


def parse(text: str, name: str) -> Settings:
    """Settings in `text`, of which the file `name` tells the format by its ending, or else the text itself."""
    if not text.strip():
        raise ConfigError(f"{name} is empty")
    ending = Path(name).suffix
    ending = ending if ending in FORMATS else guess_format(text)
    try:
        values = FORMATS[ending](text)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    except BROKEN as error:
        raise ConfigError(" ".join(f"{name} is not valid {ending[1:].upper()}: {error}".split())) from None
    if not isinstance(values, dict) or not values:
        raise ConfigError(f"{name} has no settings, such as num_envs = 1024")
    return values
