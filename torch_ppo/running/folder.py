"""A run's folder: its files, and where each of them is."""

import time
from pathlib import Path

from torch_ppo.errors import ConfigError
from torch_ppo.running.checkpoint import save_checkpoint
from torch_ppo.running.disk import check_folder, write_atomically
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import to_toml


class RunFolder:
    """Where a run keeps its files; see docs/design.md section 6."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.policy = path / "policy.pt"

    @classmethod
    def for_new_run(cls, path: Path | None, config: Config) -> "RunFolder":
        """Checks that the folder is free; creates nothing yet."""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        path = path or Path("runs") / f"{config.env.rpartition(':')[2]}-{stamp}-s{config.seed}"
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            what = "is not empty" if path.is_dir() else "is a file"
            raise ConfigError(f"--run-dir {path} {what}; name a new folder, or --resume a run")
        check_folder(path, "--run-dir")
        return cls(path)

    def create(self, config: Config) -> None:
        """Makes the folder and writes the resolved configuration."""
        try:
            self.checkpoints.mkdir(parents=True)
            self.write_config(config)
        except OSError as error:
            raise ConfigError(f"--run-dir {self.path} cannot be written: {error.strerror}") from None

    def write_config(self, config: Config) -> None:
        """config.toml; `--config` on it repeats the run."""
        write_atomically(self.path / "config.toml", to_toml(config).encode())

    def checkpoint(self, preferred: str) -> Path:
        """The `preferred` checkpoint, or the last one."""
        path = self.checkpoints / f"{preferred}.pt"
        return path if path.exists() else self.checkpoints / "last.pt"

    def save(self, state: TrainingState, *, named: bool, best: bool) -> None:
        """Writes last.pt; also <env steps>.pt if `named`, and best.pt if `best`."""
        # last.pt last: a crash in between must not lose a best.pt that last.pt knows of.
        names = [f"{state.env_steps}"] * named + ["best"] * best + ["last"]
        save_checkpoint(state.checkpoint(), *(self.checkpoints / f"{name}.pt" for name in names))
