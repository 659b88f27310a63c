"""The two ends between which methods are compared: train everything, train nothing."""

from adapteo.bands import HLS6
from adapteo.contracts import adapt, trainable
from adapteo.peft.frozen import Frozen
from adapteo.peft.full import Full
from tiny import TinyBackbone


def test_full_trains_everything_again_after_another_method_froze_it():
    backbone = adapt(TinyBackbone(HLS6), Frozen())
    assert not trainable(backbone)
    assert trainable(adapt(backbone, Full())).keys() == dict(backbone.named_parameters()).keys()


def test_full_keeps_upstream_names_in_its_adapter():
    backbone = adapt(TinyBackbone(HLS6), Full())
    assert Full().adapter_state(backbone).keys() == dict(backbone.named_parameters()).keys()
    assert Full().adapter_config(backbone) == {"peft_type": "ADAPTEO_FULL"}
