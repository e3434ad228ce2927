"""How the numbers were made, for the foot of a page."""

from __future__ import annotations

from adapterstilts.report.results import Results


def method_notes(results: Results) -> list[str]:
    """How the gains of a report were made and tested, and how its scores are to be read."""
    families = {r.gain.family for target in results.targets for r in target.arms if r.gain}
    notes = [
        "Scores are percent on the split named with each number. Zero-shot is the mean over all languages but English.",
        "A gain is the difference of an arm and its baseline on the same base with the same seed, in points."
        " Intervals are Student's t over these pairs at 95 %; where the bases differ beyond their seeds"
        " (F test, p < 0.05) the interval is over bases instead.",
        "A gain or loss is claimed where zero is excluded after Holm's correction"
        + (f" over {max(families)} comparisons (arms and targets)" if families else "")
        + "; per language, over the languages of that arm. Everything else reads \u201cno gain found\u201d,"
        " which is not the same as \u201cno effect\u201d: the interval says what remains possible.",
    ]
    if any(r.gain and r.gain.resampled for target in results.targets for r in target.arms):
        notes.append(
            "The wider interval beside it also resamples languages and test examples (2,000 crossed bootstrap rounds,"
            " languages of one family together): it speaks about other languages and other sentences, too."
        )
    return notes + reading_notes(results)


def reading_notes(results: Results) -> list[str]:
    """What a score is compared with, the layers of retrieval, the distances."""
    facts = results.facts
    notes = []
    if any(target.level is not None for target in results.targets):
        notes.append(
            "The guesser's level is the larger of chance and the majority class; a score less than 1.96 standard errors"
            " above it is flagged as chance level."
        )
    for item in results.retrievals:
        if item.layer is None:
            notes.append(
                f"{facts.name(item.task)} is read at the layer, and with the threshold, that is best on its development"
                " data, for each module and language; the curve over layers is of the development data."
            )
            continue
        why = "as the recipe says" if item.layer_given else "as deep as the published layer 14 of 24"
        notes.append(
            f"{facts.name(item.task)} is read at layer {item.layer} ({why}), one layer for all modules and languages."
            " The best layer, chosen on the same data, is shown for orientation only: it is optimistic."
        )
    if facts.distance_source:
        notes.append(f"Distance from English: {facts.distance_source}")
    return notes + list(facts.notes)
