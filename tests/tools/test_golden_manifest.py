"""The manifest that tools/golden writes beside its arrays; the arrays themselves need Brax."""

import shutil

import numpy as np
import pytest

from tests.helpers.golden_data import SHIPPED
from tools.golden.manifest import ARRAYS, MANIFEST, make_manifest, write_manifest


def test_manifest_is_of_the_shipped_arrays(tmp_path, capsys):
    shutil.copy(SHIPPED, tmp_path / ARRAYS)
    write_manifest(tmp_path)
    assert (tmp_path / MANIFEST).read_bytes() == SHIPPED.with_name(MANIFEST).read_bytes()
    assert "loss:grad_policy " in capsys.readouterr().out


def test_float32_error_is_measured_against_the_float64_twin():
    single, double = np.array([1.0, -4.0], np.float32), np.array([1.0, -4.5])
    manifest = make_manifest({"gae/case/out/vs": single, "gae/case/out64/vs": double})
    assert manifest["gae/case/out/vs"]["max_abs_diff_to_float64"] == 0.5
    assert manifest["gae/case/out/vs"]["max_abs"] == 4.5
    assert "max_abs" not in manifest["gae/case/out64/vs"]


@pytest.mark.parametrize(
    "arrays, message",
    [({"unheard/of": np.zeros(1)}, "undescribed"), ({"gae/case/out/vs": np.array([np.nan])}, "gae/case/out/vs")],
)
def test_a_key_without_meaning_or_a_value_that_is_no_number_is_refused(arrays, message):
    with pytest.raises(AssertionError, match=message):
        make_manifest(arrays)
