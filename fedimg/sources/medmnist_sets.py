"""The 28-pixel sets of MedMNIST v2 with one label an image, as their publisher lists them.

Yang et al., MedMNIST v2, Scientific Data 10:41 (2023). Addresses, MD5, classes and counts: the package
`medmnist` 3.0.2, `medmnist/info.py`, record https://zenodo.org/records/10519652. ChestMNIST is left
out: its images have fourteen labels each.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PublishedSet:
    """What the publisher states.

    Attributes:
        md5: of the npz file. classes: names by index. counts: images of train, validation and test.
        licence: as stated. dimensions: 2 or 3.
    """

    md5: str
    classes: tuple[str, ...]
    counts: tuple[int, int, int]
    licence: str = "CC BY 4.0"
    dimensions: int = 2


_ORGANS = (
    "bladder",
    "femur-left",
    "femur-right",
    "heart",
    "kidney-left",
    "kidney-right",
    "liver",
    "lung-left",
    "lung-right",
    "pancreas",
    "spleen",
)
_ORGANS_3D = (
    "liver",
    "kidney-right",
    "kidney-left",
    "femur-right",
    "femur-left",
    "bladder",
    "heart",
    "lung-right",
    "lung-left",
    "spleen",
    "pancreas",
)

SETS: dict[str, PublishedSet] = {
    "pathmnist": PublishedSet(
        "a8b06965200029087d5bd730944a56c1",
        (
            "adipose",
            "background",
            "debris",
            "lymphocytes",
            "mucus",
            "smooth muscle",
            "normal colon mucosa",
            "cancer-associated stroma",
            "colorectal adenocarcinoma epithelium",
        ),
        (89996, 10004, 7180),
    ),
    "dermamnist": PublishedSet(
        "0744692d530f8e62ec473284d019b0c7",
        (
            "actinic keratoses and intraepithelial carcinoma",
            "basal cell carcinoma",
            "benign keratosis-like lesions",
            "dermatofibroma",
            "melanoma",
            "melanocytic nevi",
            "vascular lesions",
        ),
        (7007, 1003, 2005),
        licence="CC BY-NC 4.0",
    ),
    "octmnist": PublishedSet(
        "c68d92d5b585d8d81f7112f81e2d0842",
        ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
        (97477, 10832, 1000),
    ),
    "pneumoniamnist": PublishedSet(
        "28209eda62fecd6e6a2d98b1501bb15f", ("normal", "pneumonia"), (4708, 524, 624)
    ),
    "retinamnist": PublishedSet(
        "bd4c0672f1bba3e3a89f0e4e876791e4", ("0", "1", "2", "3", "4"), (1080, 120, 400)
    ),
    "breastmnist": PublishedSet(
        "750601b1f35ba3300ea97c75c52ff8f6", ("malignant", "normal, benign"), (546, 78, 156)
    ),
    "bloodmnist": PublishedSet(
        "7053d0359d879ad8a5505303e11de1dc",
        (
            "basophil",
            "eosinophil",
            "erythroblast",
            "immature granulocytes",
            "lymphocyte",
            "monocyte",
            "neutrophil",
            "platelet",
        ),
        (11959, 1712, 3421),
    ),
    "tissuemnist": PublishedSet(
        "ebe78ee8b05294063de985d821c1c34b",
        (
            "Collecting Duct, Connecting Tubule",
            "Distal Convoluted Tubule",
            "Glomerular endothelial cells",
            "Interstitial endothelial cells",
            "Leukocytes",
            "Podocytes",
            "Proximal Tubule Segments",
            "Thick Ascending Limb",
        ),
        (165466, 23640, 47280),
    ),
    "organamnist": PublishedSet("68e3f8846a6bd62f0c9bf841c0d9eacc", _ORGANS, (34561, 6491, 17778)),
    "organcmnist": PublishedSet("b9ceb9546e10131b32923c5bbeaea2b1", _ORGANS, (12975, 2392, 8216)),
    "organsmnist": PublishedSet("9ab87b696fb54e2a387ebe992d6ed5f1", _ORGANS, (13932, 2452, 8827)),
    "organmnist3d": PublishedSet(
        "a0c5a1ff56af4f155c46d46fbb45a2fe", _ORGANS_3D, (971, 161, 610), dimensions=3
    ),
    "nodulemnist3d": PublishedSet(
        "8755a7e9e05a4d9ce80a24c3e7a256f3", ("benign", "malignant"), (1158, 165, 310), dimensions=3
    ),
    "adrenalmnist3d": PublishedSet(
        "bbd3c5a5576322bc4cdfea780653b1ce", ("normal", "hyperplasia"), (1188, 98, 298), dimensions=3
    ),
    "fracturemnist3d": PublishedSet(
        "6aa7b0143a6b42da40027a9dda61302f",
        ("buckle rib fracture", "nondisplaced rib fracture", "displaced rib fracture"),
        (1027, 103, 240),
        dimensions=3,
    ),
    "vesselmnist3d": PublishedSet(
        "b41fd4f7e7e2feedddb201585ecafa1b", ("vessel", "aneurysm"), (1335, 191, 382), dimensions=3
    ),
    "synapsemnist3d": PublishedSet(
        "1235b78a3cd6280881dd7850a78eadb6",
        ("inhibitory synapse", "excitatory synapse"),
        (1230, 177, 352),
        dimensions=3,
    ),
}


def address(name: str) -> str:
    """Where the publisher offers the set's 28-pixel file."""
    return f"https://zenodo.org/records/10519652/files/{name}.npz?download=1"
