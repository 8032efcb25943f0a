"""The fifty classes of the benchmark: every second one of each data set, labels 0, 2, 4, …, 48.

By their names, so that a data set whose labels stand in another order is noticed.
"""

# Between the labels that are taken.
STEP = 2

LIVING = (
    "acorn",
    "albatross",
    "american_lobster",
    "baboon",
    "bee",
    "bighorn",
    "boa_constrictor",
    "brown_bear",
    "cauliflower",
    "chimpanzee",
    "cougar",
    "dugong",
    "gazelle",
    "golden_retriever",
    "goose",
    "guinea_pig",
    "jellyfish",
    "koala",
    "lesser_panda",
    "mantis",
    "mushroom",
    "persian_cat",
    "scorpion",
    "snail",
    "tarantula",
)
THINGS = (
    "abacus",
    "barn",
    "bathtub",
    "binoculars",
    "bullet_train",
    "cannon",
    "cliff_dwelling",
    "dam",
    "fountain",
    "frying_pan",
    "go-kart",
    "hourglass",
    "kimono",
    "lifeboat",
    "military_uniform",
    "obelisk",
    "parking_meter",
    "refrigerator",
    "rocking_chair",
    "school_bus",
    "sombrero",
    "suspension_bridge",
    "teddy",
    "triumphal_arch",
    "umbrella",
)
# By the name of the teacher: the TFDS data set, and the classes of it that the teacher learns.
COLLECTIONS = {
    "living": ("tiny_imagenet_living", LIVING),
    "things": ("tiny_imagenet_things", THINGS),
}
