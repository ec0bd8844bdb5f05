"""Shifts of pixels between passes: `augment`."""

import jax
import numpy as np
from brax.training.agents.ppo import train as ppo

from tools.golden.store import Cases, Store

SEQUENCES, STEPS = 5, 3
# Images larger and smaller than the padding of 4.
AUGMENT_CASES = {
    "two_views": {"pixels/view_0": (13, 12, 3), "pixels/view_1": (9, 7, 1)},
    "small_image": {"pixels/view_0": (3, 2, 2)},
}


def augment_inputs() -> Cases:
    """Observations of some sequences, batch first as in Brax's data, and the key of the shifts."""
    cases = {}
    for i, (name, views) in enumerate(AUGMENT_CASES.items()):
        random = np.random.RandomState(160 + i)
        case = {f"obs/{view}": random.rand(SEQUENCES, STEPS, *shape) for view, shape in views.items()}
        case |= {
            "cfg": {},
            "obs/state": random.randn(SEQUENCES, STEPS, 4),
            "key": np.asarray(jax.random.PRNGKey(170 + i)),
        }
        cases[name] = case
    return cases


def drawn_offsets(key: jax.Array, num_views: int) -> np.ndarray:
    """The rows and columns at which Brax crops each view of each sequence, drawn as it draws them."""
    offsets = []
    for of_sequence in jax.random.split(key, SEQUENCES):
        views = []
        for _ in range(num_views):
            of_sequence, of_view = jax.random.split(of_sequence)
            views.append(jax.random.randint(of_view, (2,), 0, 9))
        offsets.append(views)
    return np.asarray(offsets)


def record_augment(store: Store) -> None:
    """What Brax makes of the observations: the group `augment`. Nothing is computed, so float64 has nothing to add."""
    for name, case in store.group("augment", augment_inputs).items():
        views = sorted(key.removeprefix("obs/") for key in case if key.startswith("obs/pixels/"))
        observation = {key.removeprefix("obs/"): x for key, x in case.items() if key.startswith("obs/")}
        store.put(f"augment/{name}/in/offsets", drawn_offsets(case["key"], len(views)))
        shifted = ppo._random_translate_pixels(observation, case["key"])
        store.put_outputs(f"augment/{name}", {f"obs/{key}": x for key, x in shifted.items()})
