"""Full modules and unions through the stages: trained, continued, stacked, merged, exported, explained."""

from __future__ import annotations

from pathlib import Path

import pytest

import adapterstilts
from adapterstilts.api.explaining import explain
from adapterstilts.api.places import open_store
from adapterstilts.errors import AdapterstiltsError

SETTINGS = {"epochs": 1, "batch": 16, "learning_rate": 1e-3}


@pytest.mark.slow
def test_from_training_to_a_plain_checkpoint(tmp_path: Path) -> None:
    where = {"store": tmp_path / "store"}
    common = {"limit": 48, "settings": SETTINGS, **where}
    adapterstilts.train("lab-siqa", name="whole", base="lab/s0", method="full", **common)
    adapterstilts.train("lab-siqa/qac", name="other", base="lab/s0", method="full", **common)
    adapterstilts.train("lab-copa", name="further", continue_from="whole", **common)
    adapterstilts.stack("whole", "lab-copa", method="lora+seq_bn", name="both", **common)
    adapterstilts.stack("whole", "lab-copa", method="lora", name="top", **common)
    adapterstilts.merge(["whole", "other"], name="less", weights=[1.0, -0.3], how="linear", **where)
    adapterstilts.stack("less", "lab-copa", method="lora", name="on-merged", **common)
    for name in ("further", "both", "top", "on-merged"):
        assert adapterstilts.evaluate(name, "lab-copa", languages=["en"], limit=20, **where)
    found = explain("both", store=open_store(tmp_path / "store"))
    assert found["formulas"]["weights"] == "θ := θ_whole"
    assert [row["method"] for row in found["modules"]] == ["full", "lora+seq_bn"]
    made = adapterstilts.export_merged("top", tmp_path / "plain", **where)
    assert made["changed"] == 24 and made["head"] is None and made["heads_left_out"]  # its heads pool all tokens
    with pytest.raises(AdapterstiltsError, match="precision: fp32"):
        adapterstilts.train(
            "lab-siqa", name="half", base="lab/s0", method="full", limit=16,
            settings={**SETTINGS, "precision": "bf16"}, **where,
        )  # fmt: skip
