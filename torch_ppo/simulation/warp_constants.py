"""What MuJoCo derives from masses, inertias and sizes, computed anew in the worlds where episodes have changed them.

The formulas are those of MuJoCo's `mj_setConst`, of which `mjw.set_const` launches hundreds of kernels for all worlds. Here
the pose at rest does not change, and with it what a joint, a tendon or an actuator moves; so the mass matrix at rest is a
sum over bodies, and a dozen launches do, of which worlds that go on take nothing.
"""

from collections.abc import Collection

import mujoco
import mujoco_warp as mjw
import numpy as np
import warp as wp
from torch import Tensor

from torch_ppo.simulation.model_fields import READ_BY_SET_CONST
from torch_ppo.simulation.randomization import ModelFields, world_models

wp.set_module_options({"enable_backward": False})  # nobody asks for gradients, and compiling them takes as long again

LEAST = wp.constant(float(mujoco.mjMINVAL))


@wp.func
def turned_back(rotation: wp.mat33, quat: wp.quat, v: wp.vec3) -> wp.vec3:
    """`v`, of the world, in the axes that `quat` (w, x, y, z, as MuJoCo has it) makes of those of `rotation`."""
    local = wp.transpose(rotation) * v
    axis = wp.vec3(quat[1], quat[2], quat[3])
    return local - 2.0 * quat[0] * wp.cross(axis, local) + 2.0 * wp.cross(axis, wp.cross(axis, local))


@wp.kernel
def mass_matrix(
    changed: wp.array(dtype=wp.int32),
    rest: wp.array3d(dtype=float),
    linear: wp.array4d(dtype=float),
    angular: wp.array4d(dtype=float),
    rotation: wp.array2d(dtype=wp.mat33),
    mass: wp.array2d(dtype=float),
    inertia: wp.array2d(dtype=wp.vec3),
    ipos: wp.array2d(dtype=wp.vec3),
    iquat: wp.array2d(dtype=wp.quat),
    armature: wp.array2d(dtype=float),
    out: wp.array3d(dtype=float),
):
    """The lower triangle of the mass matrix at rest."""
    world, i, j = wp.tid()
    if changed[world] == 0 or j > i:
        return
    row = world % rest.shape[0]
    total = rest[row, i, j]
    if i == j:
        total += armature[world % armature.shape[0], i]
    for body in range(1, mass.shape[1]):
        turn = rotation[row, body]
        to_com = turn * ipos[world % ipos.shape[0], body]
        spin_i = column(angular, row, body, i)
        spin_j = column(angular, row, body, j)
        move_i = column(linear, row, body, i) + wp.cross(spin_i, to_com)
        move_j = column(linear, row, body, j) + wp.cross(spin_j, to_com)
        quat = iquat[world % iquat.shape[0], body]
        own_i = turned_back(turn, quat, spin_i)
        own_j = turned_back(turn, quat, spin_j)
        total += mass[world % mass.shape[0], body] * wp.dot(move_i, move_j)
        total += wp.dot(own_i, wp.cw_mul(inertia[world % inertia.shape[0], body], own_j))
    out[world, i, j] = total


@wp.func
def column(jacobian: wp.array4d(dtype=float), row: int, body: int, dof: int) -> wp.vec3:
    return wp.vec3(jacobian[row, body, 0, dof], jacobian[row, body, 1, dof], jacobian[row, body, 2, dof])


@wp.kernel
def cholesky(changed: wp.array(dtype=wp.int32), matrix: wp.array3d(dtype=float)):
    """The lower triangle of each matrix becomes that of its factor."""
    world = wp.tid()
    if changed[world] == 0:
        return
    for j in range(matrix.shape[1]):
        square = matrix[world, j, j]
        for k in range(j):
            square -= matrix[world, j, k] * matrix[world, j, k]
        diagonal = wp.sqrt(wp.max(square, LEAST))
        matrix[world, j, j] = diagonal
        for i in range(j + 1, matrix.shape[1]):
            value = matrix[world, i, j]
            for k in range(j):
                value -= matrix[world, i, k] * matrix[world, j, k]
            matrix[world, i, j] = value / diagonal


@wp.kernel
def inverse_of_factor(changed: wp.array(dtype=wp.int32), factor: wp.array3d(dtype=float), out: wp.array3d(dtype=float)):
    world, j = wp.tid()
    if changed[world] == 0:
        return
    for i in range(j, factor.shape[1]):
        value = wp.float32(0.0)
        if i == j:
            value = 1.0
        for k in range(j, i):
            value -= factor[world, i, k] * out[world, k, j]
        out[world, i, j] = value / factor[world, i, i]


@wp.kernel
def inverse(changed: wp.array(dtype=wp.int32), inverse_factor: wp.array3d(dtype=float), out: wp.array3d(dtype=float)):
    world, i, j = wp.tid()
    if changed[world] == 0:
        return
    value = wp.float32(0.0)
    for k in range(wp.max(i, j), out.shape[1]):
        value += inverse_factor[world, k, i] * inverse_factor[world, k, j]
    out[world, i, j] = value


@wp.kernel
def inverse_weights_of_dofs(
    changed: wp.array(dtype=wp.int32),
    minv: wp.array3d(dtype=float),
    group: wp.array2d(dtype=wp.int32),
    mass: wp.array2d(dtype=float),
    out: wp.array2d(dtype=float),
):
    """The mean over those degrees of freedom that count as one: see `dofs_that_count_as_one` for `group`."""
    world, dof = wp.tid()
    if changed[world] == 0:
        return
    if group[dof, 2] > 0:
        out[world, dof] = 1.0 / wp.max(mass[world % mass.shape[0], group[dof, 2]], LEAST)
        return
    total = wp.float32(0.0)
    for i in range(group[dof, 0], group[dof, 0] + group[dof, 1]):
        total += minv[world, i, i]
    out[world, dof] = total / float(group[dof, 1])


@wp.kernel
def inverse_weights_of_bodies(
    changed: wp.array(dtype=wp.int32),
    minv: wp.array3d(dtype=float),
    linear: wp.array4d(dtype=float),
    angular: wp.array4d(dtype=float),
    rotation: wp.array2d(dtype=wp.mat33),
    ipos: wp.array2d(dtype=wp.vec3),
    mass: wp.array2d(dtype=float),
    weldid: wp.array(dtype=wp.int32),
    simple: wp.array(dtype=wp.int32),
    out: wp.array2d(dtype=wp.vec2),
):
    world, body = wp.tid()
    if changed[world] == 0:
        return
    if simple[body] == 2:  # it only slides
        out[world, body] = wp.vec2(1.0 / wp.max(mass[world % mass.shape[0], body], LEAST), 0.0)
        return
    row = world % linear.shape[0]
    moves = wp.float32(0.0)
    spins = wp.float32(0.0)
    if weldid[body] != 0:
        to_com = rotation[row, body] * ipos[world % ipos.shape[0], body]
        for i in range(minv.shape[1]):
            spin_i = column(angular, row, body, i)
            move_i = column(linear, row, body, i) + wp.cross(spin_i, to_com)
            for j in range(minv.shape[1]):
                spin_j = column(angular, row, body, j)
                move_j = column(linear, row, body, j) + wp.cross(spin_j, to_com)
                moves += minv[world, i, j] * wp.dot(move_i, move_j) / 3.0
                spins += minv[world, i, j] * wp.dot(spin_i, spin_j) / 3.0
    out[world, body] = wp.vec2(moves, spins)


@wp.kernel
def inverse_weights_of_tendons(
    changed: wp.array(dtype=wp.int32),
    minv: wp.array3d(dtype=float),
    jacobian: wp.array3d(dtype=float),
    out: wp.array2d(dtype=float),
):
    world, tendon = wp.tid()
    if changed[world] == 0:
        return
    row = world % jacobian.shape[0]
    total = wp.float32(0.0)
    for i in range(minv.shape[1]):
        for j in range(minv.shape[1]):
            total += jacobian[row, tendon, i] * minv[world, i, j] * jacobian[row, tendon, j]
    out[world, tendon] = total


@wp.kernel
def accelerations_of_actuators(
    changed: wp.array(dtype=wp.int32),
    minv: wp.array3d(dtype=float),
    moment: wp.array3d(dtype=float),
    out: wp.array2d(dtype=float),
):
    world, actuator = wp.tid()
    if changed[world] == 0:
        return
    row = world % moment.shape[0]
    square = wp.float32(0.0)
    for i in range(minv.shape[1]):
        value = wp.float32(0.0)
        for j in range(minv.shape[1]):
            value += minv[world, i, j] * moment[row, actuator, j]
        square += value * value
    out[world, actuator] = wp.sqrt(square)


@wp.kernel
def subtree_masses(
    changed: wp.array(dtype=wp.int32),
    subtreenum: wp.array(dtype=wp.int32),
    mass: wp.array2d(dtype=float),
    out: wp.array2d(dtype=float),
):
    world, body = wp.tid()
    if changed[world] == 0:
        return
    total = wp.float32(0.0)
    for i in range(body, body + subtreenum[body]):
        total += mass[world % mass.shape[0], i]
    out[world, body] = total


class Constants:
    """Derived constants of worlds whose model changes.

    names:    of the constants, arrays of each world in MuJoCo Warp's model
    changed:  what `launch` goes by: other than 0 where they are to be computed, int32     (num_envs,)
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        warp_model: mjw.Model,
        num_envs: int,
        own: ModelFields,
        varying: Collection[str],
        names: Collection[str],
    ) -> None:
        self._model, self.names, self._num_envs = warp_model, list(names), num_envs
        self._device = warp_model.body_mass.device
        self._sizes = "geom_rbound" in names
        self._subtrees = "body_subtreemass" in names
        self._inverse = "body_invweight0" in names and model.nv > 0
        self._changed = wp.zeros(num_envs, dtype=wp.int32, device=self._device)
        self.changed = wp.to_torch(self._changed)
        if self._inverse:
            self._at_rest(model, num_envs, own)

    def state(self) -> dict[str, Tensor]:
        """The live constants by name."""
        return {name: wp.to_torch(getattr(self._model, name)) for name in self.names}

    def _at_rest(self, model: mujoco.MjModel, num_envs: int, own: ModelFields) -> None:
        """What the pose at rest decides, for all worlds, or for each where they differ."""
        models = world_models(model, num_envs, own) if own.keys() & READ_BY_SET_CONST else [model]
        parts = [parts_at_rest(each) for each in models]
        rest, linear, angular, rotation, tendons, moments = (np.stack(part) for part in zip(*parts, strict=True))

        def array(value: np.ndarray, dtype: type = float) -> wp.array:
            return wp.array(value, dtype=dtype, device=self._device)

        self._rest, self._linear, self._angular = array(rest), array(linear), array(angular)
        self._rotation = array(rotation, wp.mat33)
        self._tendons, self._moments = array(tendons), array(moments)
        self._simple = array(model.body_simple.astype(np.int32), wp.int32)
        self._groups = array(dofs_that_count_as_one(model), wp.int32)
        shape = (num_envs, model.nv, model.nv)
        self._factor, self._factor_inverse, self._minv = (
            wp.zeros(shape, dtype=float, device=self._device) for _ in range(3)
        )

    def launch(self) -> None:
        """Computes the constants of `changed` worlds. Only launches on fixed arrays, so that it can be recorded."""
        m, n, changed = self._model, self._num_envs, self._changed
        if self._sizes:  # in all worlds: two launches
            mjw.set_const(m, None, groups=mjw.SetConstGroup.FIXED, restore=False)
        if self._subtrees:
            wp.launch(subtree_masses, (n, m.nbody), [changed, m.body_subtreenum, m.body_mass], [m.body_subtreemass])
        if not self._inverse:
            return
        frames = [self._linear, self._angular, self._rotation]
        masses = [m.body_mass, m.body_inertia, m.body_ipos, m.body_iquat, m.dof_armature]
        wp.launch(mass_matrix, (n, m.nv, m.nv), [changed, self._rest, *frames, *masses], [self._factor])
        wp.launch(cholesky, n, [changed], [self._factor])
        wp.launch(inverse_of_factor, (n, m.nv), [changed, self._factor], [self._factor_inverse])
        wp.launch(inverse, (n, m.nv, m.nv), [changed, self._factor_inverse], [self._minv])
        wp.launch(
            inverse_weights_of_dofs, (n, m.nv), [changed, self._minv, self._groups, m.body_mass], [m.dof_invweight0]
        )
        wp.launch(
            inverse_weights_of_bodies,
            (n, m.nbody),
            [changed, self._minv, *frames, m.body_ipos, m.body_mass, m.body_weldid, self._simple],
            [m.body_invweight0],
        )
        if m.ntendon:
            wp.launch(
                inverse_weights_of_tendons, (n, m.ntendon), [changed, self._minv, self._tendons], [m.tendon_invweight0]
            )
        if m.nactuator:
            wp.launch(
                accelerations_of_actuators, (n, m.nactuator), [changed, self._minv, self._moments], [m.actuator_acc0]
            )


def parts_at_rest(model: mujoco.MjModel) -> tuple[np.ndarray, ...]:
    """Of a model at `qpos0`: the mass matrix without bodies and `dof_armature` (nv, nv), how each degree of freedom moves
    and turns each body's frame (nbody, 3, nv) twice, the frames' rotation (nbody, 3, 3), and what tendons (ntendon, nv) and
    actuators (nactuator, nv) pull at.
    """
    data = mujoco.MjData(model)
    data.qpos[:] = model.qpos0
    for stage in (mujoco.mj_kinematics, mujoco.mj_comPos, mujoco.mj_tendon, mujoco.mj_makeM, mujoco.mj_transmission):
        stage(model, data)  # without contacts, of which the moments of adhesion would be
    nv, nbody = model.nv, model.nbody
    linear, angular = np.zeros((nbody, 3, nv)), np.zeros((nbody, 3, nv))
    for body in range(nbody):
        mujoco.mj_jacBody(model, data, linear[body], angular[body], body)
    whole = np.zeros((nv, nv))
    mujoco.mj_fullM(model, data, whole)
    rest = whole - np.diag(model.dof_armature)
    for body in range(1, nbody):
        turn = data.xmat[body].reshape(3, 3)
        own = data.ximat[body].reshape(3, 3).T @ angular[body]
        to_com = turn @ model.body_ipos[body]
        moves = linear[body] + np.cross(angular[body], to_com, axis=0)
        rest -= model.body_mass[body] * moves.T @ moves + own.T @ (model.body_inertia[body][:, None] * own)
    tendons, moments = np.zeros((model.ntendon, nv)), np.zeros((model.nactuator, nv))
    if model.ntendon:
        mujoco.mju_sparse2dense(tendons, data.ten_J, model.ten_J_rownnz, model.ten_J_rowadr, model.ten_J_colind)
    if model.nactuator:
        mujoco.mju_sparse2dense(
            moments, data.actuator_moment, data.moment_rownnz, data.moment_rowadr, data.moment_colind
        )
    return rest, linear, angular, data.xmat.reshape(nbody, 3, 3).copy(), tendons, moments


def dofs_that_count_as_one(model: mujoco.MjModel) -> np.ndarray:
    """Of each degree of freedom the first of those whose mean is taken, how many, and the body if that only slides, else 0.

    `(nv, 3)`.
    """
    groups = []
    for kind, body in zip(model.jnt_type, model.jnt_bodyid, strict=True):
        first, slides = len(groups), int(body) if model.body_simple[body] == 2 else 0
        if kind == mujoco.mjtJoint.mjJNT_FREE:
            groups += [(first, 3, 0)] * 3 + [(first + 3, 3, 0)] * 3
        else:
            count = 3 if kind == mujoco.mjtJoint.mjJNT_BALL else 1
            groups += [(first, count, slides)] * count
    return np.array(groups, dtype=np.int32)
