"""Evidence of broken worlds: the last steps of the first few, kept on the device until a report asks for it."""

import torch
from torch import Tensor

from torch_ppo.learning.agent import Agent
from torch_ppo.learning.batch import Batch
from torch_ppo.simulation.host import host_can_ask

MAX_CASES = 4  # in a report interval; what breaks more often breaks alike


class Evidence:
    """Of each unroll in which worlds broke, the first of them, up to `MAX_CASES` until they are taken.

    num_unrolls:  looked at so far since `take`, int64    ()
    num_cases:    kept, int64                             ()
    """

    def __init__(self, agent: Agent, record: Batch) -> None:
        self.agent, self.record = agent, record
        device, length = record.reward.device, record.reward.shape[0]
        self.num_unrolls = torch.zeros((), dtype=torch.int64, device=device)
        self.num_cases = torch.zeros((), dtype=torch.int64, device=device)
        # One more than is kept: where unrolls without a case write.
        self._where = torch.zeros(MAX_CASES + 1, 2, dtype=torch.int64, device=device)  # unroll, world
        self._steps = {
            name: torch.zeros(MAX_CASES + 1, length, *x.shape[2:], dtype=x.dtype, device=device)
            for name, x in self._columns().items()
        }

    def _columns(self) -> dict[str, Tensor]:
        """What is kept of every step, `(T, num_envs, ...)` by name."""
        record = self.record
        seen = {f"observation/{key}": x for key, x in record.observation.items()}
        led_to = {f"final_observation/{key}": x for key, x in record.final_observation.items()}
        return {
            "broken": record.broken,
            "state": record.final_state,
            "raw_action": record.raw_action,
            **seen,
            **led_to,
        }

    @torch.no_grad()
    def look(self) -> None:
        """Takes in the unroll that was just recorded; reads nothing from the device unless that is the CPU."""
        self.num_unrolls += 1
        broken = self.record.broken.ne(0)
        if host_can_ask(broken) and not broken.any():
            return
        world = broken.flatten().to(torch.int8).argmax() % broken.shape[1]  # the first in time
        found = broken.any() & (self.num_cases < MAX_CASES)
        slot = torch.where(found, self.num_cases, MAX_CASES)[None]
        self._where.index_copy_(0, slot, torch.stack([self.num_unrolls, world])[None])
        for name, x in self._columns().items():
            self._steps[name].index_copy_(0, slot, x.index_select(1, world[None]).transpose(0, 1))
        self.num_cases += found

    def take(self) -> list[dict[str, object]]:
        """The cases since the last time, on the CPU. Reads from the device.

        unroll:             which unroll since the last time, from 1
        world:              which env
        cause:              code as in `BrokenWorlds.cause`
        state:              qpos, qvel, act, ctrl after each step and before any restart  (n, nq + nv + na + nu)
        action:             that led to it                                                (n, action_dim)
        observation:        before that action, what the networks see, by key             (n, obs_dim)
        final_observation:  after it and before any restart, likewise                     (n, obs_dim)

        Rows are the steps of the unroll up to the one in which the world broke, the last.
        """
        cases = []
        for i in range(int(self.num_cases)):
            kept = {name: x[i].cpu() for name, x in self._steps.items()}
            broke = int(kept["broken"].ne(0).to(torch.int8).argmax())
            kept = {name: x[: broke + 1].clone() for name, x in kept.items()}
            unroll, world = self._where[i].tolist()
            case = {
                "unroll": unroll,
                "world": world,
                "cause": int(kept.pop("broken")[broke]),
                "state": kept.pop("state"),
            }
            case["action"] = self.agent.distribution.action(kept.pop("raw_action"))
            for name, x in kept.items():
                part, _, key = name.partition("/")
                case.setdefault(part, {})[key] = x
            cases.append(case)
        self.num_cases.zero_()
        self.num_unrolls.zero_()
        return cases
