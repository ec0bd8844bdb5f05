"""The first training step of each case in float64, from what the parent has recorded in float32: `trainstep`."""

from brax.training.agents.ppo.losses import PPONetworkParams

from tools.golden.networks import init
from tools.golden.noise import injected_noise
from tools.golden.store import Store
from tools.golden.training import Trainer, first_step_arrays, normalizer_arrays, sgd_passes
from tools.golden.training_cases import TRAIN_CASES
from tools.golden.transitions import bootstrap_timeouts, transition
from tools.golden.trees import device, unflatten


def record_replays(store: Store) -> None:
    """Every case, in the child process."""
    for name in TRAIN_CASES:
        start = f"trainstep/{name}/step0/in/"
        given = {key.removeprefix(start): array for key, array in store.parent.items() if key.startswith(start)}
        trainer = Trainer.of_case(name)
        template = init(trainer.nets, 0)
        parameters = PPONetworkParams(
            policy=unflatten(given["policy"], template.policy), value=unflatten(given["value"], template.value)
        )
        arrays = {key.removeprefix("data/"): device(array) for key, array in given.items() if key.startswith("data/")}
        data = bootstrap_timeouts(transition(arrays, trainer.network), trainer.train)
        fresh = trainer.fresh_normalizer()
        updated = trainer.update_normalizer(fresh, data)
        with injected_noise():
            passes = sgd_passes(
                trainer,
                trainer.optimizer.init(parameters),
                parameters,
                (fresh, updated),
                data,
                given["permutations"],
                device(given["entropy_noise"]),
            )
        outputs = {f"metrics/{metric}": values for metric, values in passes.metrics.items()}
        store.put_outputs(f"trainstep/{name}/step0", outputs | normalizer_arrays(updated) | first_step_arrays(passes))
