"""The generator of tests/golden: small numeric fixtures that Brax's PPO produces.

    python -m tools.golden [--out DIR] [--report-only]

Needs brax 0.14.2, and a jax older than 0.10, because that release of brax calls a function that jax 0.10 removed. The
CPU is enough; a run takes a few minutes. It imports nothing of this project.

The modules build inputs with numpy, call Brax's public functions, and record inputs and outputs. All of it runs twice:
a child process repeats it with float64 enabled, from the recorded float32 inputs, and gives reference outputs free of
float32 rounding ("out64"). No group draws from another one's random numbers, so they may run in any order.

    store, trees, noise             what is recorded; trees of arrays; random numbers, drawn or injected
    networks, transitions           Brax's networks and transitions, made and read
    formulas, distributions         groups of one function each
    network_outputs, vision         outputs of networks
    augment                         shifts of pixels
    minibatch_loss                  the loss of a minibatch and its gradient
    toy, episodes, schedule         an environment, and all that surrounds training steps
    training_cases, training        settings of training steps, and what is made of them
    training_steps, training_replay whole training steps, and their repetition in float64
    descriptions, manifest          what every key means; the manifest
"""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # read when jax is imported, so before every module in here
