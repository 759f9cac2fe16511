"""What each kind of model is good for and where its limits are, in words for a table's reader."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Words:
    """Of one kind of model: what speaks for it and what against it."""

    strengths: str
    limits: str


_UNKNOWN = Words("not described", "not described")

WORDS = {
    "ridge": Words(
        "one round and one release for the whole budget, so that noise costs it little; equals ridge on pooled data",
        "linear in fixed features; its scores are no probabilities; d² numbers a round",
    ),
    "logistic": Words(
        "scores that are probabilities; a handful of rounds; equals logistic regression on pooled data",
        "linear in fixed features; d² numbers in each of several rounds, each a release under noise",
    ),
    "svm": Words(
        "a wide margin; kernel=rbf bends it; a handful of rounds",
        "scores are no probabilities; a patient's row is clipped under privacy; several releases",
    ),
    "decision_tree": Words(
        "can be read, question by question; one round a level",
        "coarse; weak on features that mean nothing one by one; noise grows with the root of their number",
    ),
    "gradient_boosting": Words(
        "strong on numbers that mean something one by one, as in tables; bends as the data do",
        "a release for every level of every tree: noise leaves room for few shallow ones",
    ),
    "extra_trees": Words(
        "one round and one release, whatever the depth; splits are drawn ahead of all data and tell nothing",
        "splits that looked at no data are weak; many trees needed",
    ),
    "kmeans": Words(
        "finds groups without labels; what a cluster stands for can be looked at",
        "knows of classes only what its clusters hold; the start matters; several releases",
    ),
    "pca": Words(
        "one round; few axes that carry most of what varies; hardly moved by noise",
        "sees what varies, not what tells classes apart; the nearest mean is a plain rule",
    ),
    "scattering": Words(
        "a trained linear head on wavelet features: the most accurate small model here under privacy, convex",
        "hundreds of noised rounds, so the most time and traffic",
    ),
    "cnn": Words(
        "learns its own features; two or three dimensions; 60 to 180 thousand parameters",
        "needs many examples or a large ε: noise grows with the root of the parameters",
    ),
    "resnet18": Words(
        "learns its own features; strong without privacy, above all from pretrained weights",
        "11 million parameters to send each round and to add noise to; weak at a small ε",
    ),
    "densenet121": Words(
        "learns its own features; the usual choice for radiographs, above all from pretrained weights",
        "7 million parameters to send each round and to add noise to; slow; weak at a small ε",
    ),
    "efficientnet_b0": Words(
        "learns its own features with fewer sums than its peers; from pretrained weights",
        "4 million parameters to send each round and to add noise to; slow without a GPU; weak at a small ε",
    ),
    "segresnet": Words(
        "says of every voxel what it is",
        "needs masks to learn from; millions of parameters to send each round and to add noise to",
    ),
    "basic_unet": Words(
        "says of every voxel what it is, with context at five scales; the usual choice for masks",
        "needs masks or boxes to learn from; hundreds of thousands of parameters to send and to add noise to",
    ),
    "unet": Words(
        "says of every voxel what it is; residual units train deep",
        "needs masks or boxes to learn from; hundreds of thousands of parameters to send and to add noise to",
    ),
    "filter_bank": Words(
        "fixed filters and some 1,500 learnt weights for every voxel: little to send and to add noise to",
        "sees no further than its widest Gaussian; coarser outlines than a network that learns its filters",
    ),
    "rules": Words(
        "nothing is learnt: no data leave, no budget is spent, and each decision names the rule that made it",
        "as good as its expert; steps instead of a smooth score; limits that were set on one kind of image do not "
        "hold on another",
    ),
    "otsu": Words(
        "one threshold, and nothing to learn: no data leave, no budget is spent",
        "whatever is bright counts, bone and contrast medium too; knows one kind of finding",
    ),
    "morphology": Words(
        "finds compact things that stand out against what is around them; nothing is learnt or sent",
        "made for what is brighter than its surroundings and no larger than a public radius; no classes",
    ),
    "blobs": Words(
        "finds round things of several sizes, with a score; nothing is learnt or sent",
        "vessels end on and folds are round too; outlines are balls; no classes",
    ),
}


def words_of(model: str) -> Words:
    """Of a network by its name; of one that is not described here (an extension) this is said."""
    return WORDS.get(model, _UNKNOWN)
