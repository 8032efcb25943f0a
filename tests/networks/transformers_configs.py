"""Architectures of `transformers`, built from configurations with random weights."""

import dataclasses
from typing import Any

_VIT = {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768}
_HEAD = "ForImageClassification"


@dataclasses.dataclass(frozen=True)
class Config:
    """One network of `transformers`.

    Args:
        model: Name of the model class; its configuration class goes with it.
        options: For the configuration, where its defaults are not what is wanted.
        size: Height and width of the images.
        other_size: Another one, for networks that leave both open.
        note: How the network differs from the published one.
        script: Whether the older exporter can write it.
        sdpa: Whether it is also exported with torch's fused attention.
        transposes: How many stay between convolutions, beside attention; the note says why.
    """

    model: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    size: tuple[int, int] = (224, 224)
    other_size: tuple[int, int] | None = None
    note: str = ""
    script: bool = True
    sdpa: bool = False
    transposes: int = 0


_PATCHES = (
    "18 transpositions, 6 in each of three stages: 2 bring pixels into patches and back, 4 undo "
    "channels last for the source's reshapes, which merge batch and channels"
)


def _open(model: str, other: tuple[int, int] = (160, 192), **options: Any) -> Config:
    return Config(model, options, other_size=other)


CONFIGS = {
    "resnet18": _open(
        f"ResNet{_HEAD}",
        depths=[2, 2, 2, 2],
        hidden_sizes=[64, 128, 256, 512],
        layer_type="basic",
    ),
    "resnet50": _open(f"ResNet{_HEAD}"),
    "regnet_y_4gf": _open(f"RegNet{_HEAD}"),
    "mobilenet_v1": _open(f"MobileNetV1{_HEAD}"),
    "mobilenet_v2": _open(f"MobileNetV2{_HEAD}"),
    "efficientnet_b0": Config(
        f"EfficientNet{_HEAD}",
        {
            "width_coefficient": 1.0,
            "depth_coefficient": 1.0,
            "hidden_dim": 1280,
            "image_size": 224,
        },
        note="refused at open size, with advice: its pooling window of 1,280 pixels could then be "
        "smaller than the map",
    ),
    "convnext_tiny": _open(f"ConvNext{_HEAD}"),
    "convnextv2_tiny": _open(f"ConvNextV2{_HEAD}"),
    "vit_tiny": Config(f"ViT{_HEAD}", _VIT, sdpa=True, note="widths of ViT-Ti"),
    "deit_tiny": Config(f"DeiT{_HEAD}WithTeacher", _VIT, sdpa=True),
    "beit_tiny": Config(
        f"Beit{_HEAD}", {**_VIT, "use_relative_position_bias": True}, note="widths of ViT-Ti"
    ),
    "swin_tiny": Config(f"Swin{_HEAD}"),
    "swinv2_tiny": Config(f"Swinv2{_HEAD}", {"image_size": 256, "window_size": 8}, (256, 256)),
    "levit_128s": Config(
        f"Levit{_HEAD}WithTeacher",
        {"hidden_sizes": [128, 256, 384], "num_attention_heads": [4, 6, 8], "depths": [2, 3, 4]},
    ),
    "pvt_tiny": Config(f"Pvt{_HEAD}"),
    "poolformer_s12": _open(f"PoolFormer{_HEAD}"),
    "focalnet_tiny": Config(f"FocalNet{_HEAD}"),
    "mobilevit_small": Config(
        f"MobileViT{_HEAD}", {"image_size": 256}, (256, 256), note=_PATCHES, transposes=18
    ),
    "cvt_13": Config(f"Cvt{_HEAD}"),
    "dinov2_small": Config(
        f"Dinov2{_HEAD}",
        {"hidden_size": 384, "num_attention_heads": 6, "image_size": 224, "patch_size": 14},
    ),
    "segformer_b0": Config("SegformerForSemanticSegmentation", {"num_labels": 150}, (256, 256)),
    "segformer_b0_classes": Config(f"Segformer{_HEAD}"),
    "pvt_v2_b0": Config(f"PvtV2{_HEAD}"),
    "mobilevitv2": Config(
        f"MobileViTV2{_HEAD}",
        {"image_size": 256},
        (256, 256),
        note=_PATCHES,
        script=False,
        transposes=18,
    ),
    "mobilevit_deeplab": Config(
        "MobileViTForSemanticSegmentation",
        {"image_size": 256, "num_labels": 21},
        (256, 256),
        note=_PATCHES,
        transposes=18,
    ),
    "mobilenet_v2_deeplab": Config(
        "MobileNetV2ForSemanticSegmentation", {"num_labels": 21}, (256, 256)
    ),
    "bit_50": Config(f"Bit{_HEAD}", {"global_padding": "same"}),
    "textnet_tiny": _open(f"TextNet{_HEAD}"),
    "hgnet_v2": _open(f"HGNetV2{_HEAD}"),
    "dinov2_registers_small": Config(
        f"Dinov2WithRegisters{_HEAD}",
        {"hidden_size": 384, "num_attention_heads": 6, "image_size": 224, "patch_size": 14},
        script=False,
    ),
    "hiera_tiny": Config(f"Hiera{_HEAD}", {"image_size": [224, 224], "depths": [1, 2, 7, 2]}),
    "vit_msn_tiny": Config(f"ViTMSN{_HEAD}", _VIT, note="widths of ViT-Ti"),
    "data2vec_tiny": Config(
        f"Data2VecVision{_HEAD}",
        {**_VIT, "use_relative_position_bias": True},
        note="widths of ViT-Ti",
    ),
    "swiftformer_xs": Config(f"SwiftFormer{_HEAD}"),
    "yolos_tiny": Config(
        "YolosForObjectDetection", {**_VIT, "image_size": [224, 224]}, note="224 px"
    ),
    "dpt_tiny": Config(
        "DPTForDepthEstimation",
        {
            **_VIT,
            "image_size": 224,
            "backbone_out_indices": [2, 5, 8, 11],
            "neck_hidden_sizes": [48, 96, 192, 192],
            "fusion_hidden_size": 64,
        },
        note="widths of ViT-Ti",
    ),
    "upernet_resnet50": Config(
        "UperNetForSemanticSegmentation",
        {"num_labels": 21, "hidden_size": 128, "auxiliary_channels": 64},
        note="ResNet-50 below, hidden width 128",
        script=False,
    ),
    "pp_lcnet": _open(f"PPLCNet{_HEAD}"),
    "siglip_vision_tiny": Config(
        f"Siglip{_HEAD}", {"vision_config": _VIT}, note="widths of ViT-Ti"
    ),
    "depth_anything_small": Config("DepthAnythingForDepthEstimation", note="reduced"),
}

# Small ones for `make test-slow`: the same blocks, little depth and width.
_FOUR = {"depths": [1, 1, 2, 1], "hidden_sizes": [32, 48, 64, 96]}
SAMPLE = {
    "sample_resnet": Config(f"ResNet{_HEAD}", {**_FOUR, "embedding_size": 16}, (64, 48), (48, 80)),
    "sample_vit": Config(
        f"ViT{_HEAD}", {**_VIT, "num_hidden_layers": 2, "image_size": 64}, (64, 64)
    ),
    "sample_swin": Config(
        f"Swin{_HEAD}",
        {"depths": [2, 2], "num_heads": [3, 6], "image_size": 112, "embed_dim": 48},
        (112, 112),
    ),
    "sample_segformer": Config(
        "SegformerForSemanticSegmentation",
        {"depths": [1, 1, 1, 1], "num_labels": 10, "decoder_hidden_size": 32},
        (64, 64),
    ),
}
