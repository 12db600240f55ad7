"""Invented 510(k) decision summaries, as a PDF looks when its text is flattened to one line with single spaces.

The form is that of the public summaries for in vitro diagnostics: lettered headings A to O, numbered sub-headings,
tables without lines. Companies, devices, numbers and results are invented; nothing here is medical information.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from jrt_lmeval.data.lists import words
from jrt_lmeval.data.making.pages import Page
from jrt_lmeval.data.making.values import SPLITS, Maker, Split
from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.prompts.tokens import count_tokens

ATTRIBUTES = words(
    "510(k) number;purpose for submission;measurand;type of test;applicant;proprietary and established names;"
    "regulation section;classification;product code;panel;intended use;indications for use;predicate device name;"
    "predicate 510(k) number;proposed labeling;conclusion"
)
LABELING = (
    "The labeling is sufficient and it satisfies the requirements of 21 CFR Part 809.10.",
    "The labeling is sufficient and it satisfies the requirements of 21 CFR Parts 801 and 809, as applicable.",
)
CONCLUSION = (
    "The submitted information in this premarket notification is complete and supports a substantial equivalence "
    "decision."
)

_PURPOSES = words(
    "Clearance of a new device;New device;Modification of a previously cleared device;Addition of a new specimen type;"
    "Clearance of an assay on an additional analyzer;New assay on a cleared instrument"
)
_SITES = words("hospital laboratories;clinical laboratories;point of care settings;reference laboratories")
_INTERFERENTS = words(
    "Hemoglobin;Bilirubin;Triglycerides;Ascorbic acid;Rheumatoid factor;Acetaminophen;Biotin;Ibuprofen"
)
_GUIDELINES = (
    "CLSI EP5-A2, Evaluation of Precision Performance of Clinical Chemistry Devices",
    "CLSI EP6-A, Evaluation of the Linearity of Quantitative Measurement Procedures",
    "CLSI EP7-A2, Interference Testing in Clinical Chemistry",
    "CLSI EP17-A, Protocols for Determination of Limits of Detection",
)
_KITS = words("Assay;Test Kit;Reagent Kit;Test System;Immunoassay")
_PANELS = {
    "chemistry": ("Clinical Chemistry (75)", "862.1"),
    "toxicology": ("Toxicology (91)", "862.3"),
    "hematology": ("Hematology (81)", "864.7"),
    "microbiology": ("Microbiology (83)", "866.3"),
    "immunology": ("Immunology (82)", "866.5"),
}
# measurand; specimen; unit; what it tells of; panel; technique
_ANALYTES = tuple(
    words(line)
    for line in (
        "C-reactive protein;serum;mg/L;inflammation;immunology;turbidimetric immunoassay",
        "D-dimer;citrated plasma;ng/mL;coagulation disorders;hematology;latex immunoassay",
        "Ferritin;serum;ng/mL;iron metabolism;immunology;chemiluminescent immunoassay",
        "Thyroid stimulating hormone;serum;mIU/L;thyroid function;chemistry;chemiluminescent immunoassay",
        "Vitamin B12;serum;pg/mL;vitamin deficiency;chemistry;competitive binding immunoassay",
        "Creatinine;urine;mg/dL;kidney function;chemistry;enzymatic colorimetric assay",
        "Hemoglobin A1c;whole blood;%;long-term glucose control;chemistry;ion-exchange chromatography",
        "Digoxin;serum;ng/mL;drug levels;toxicology;homogeneous enzyme immunoassay",
        "Valproic acid;plasma;µg/mL;drug levels;toxicology;particle-enhanced immunoassay",
        "Antithrombin III;citrated plasma;% activity;antithrombin deficiency;hematology;chromogenic assay",
        "Rubella virus IgG antibodies;serum;IU/mL;immune status;microbiology;enzyme-linked immunosorbent assay",
        "Influenza A virus RNA;nasopharyngeal swabs;copies/mL;influenza infection;microbiology;real-time PCR assay",
        "Cystatin C;plasma;mg/L;kidney function;chemistry;nephelometric immunoassay",
        "Anti-nuclear antibodies;serum;units;connective tissue disease;immunology;multiplex flow immunoassay",
        "Lipoprotein(a);serum;mg/dL;lipid metabolism;immunology;turbidimetric immunoassay",
        "Fibrinogen;citrated plasma;mg/dL;coagulation disorders;hematology;clotting assay",
    )
)


@dataclass(frozen=True)
class Device:
    """What one summary is about; the fields not asked for fill its tables."""

    facts: dict[str, str]
    name: str
    analyte: str
    specimen: str
    unit: str
    technique: str
    analyzer: str
    predicate: str


def _number(rng: random.Random, letter: str) -> str:
    return f"{letter}{rng.randint(3, 19):02d}{rng.randint(1, 4300):04d}"


def _device(maker: Maker) -> Device:
    rng = maker.rng
    analyte, specimen, unit, tells, field, technique = rng.choice(_ANALYTES)
    panel, section = _PANELS[field]
    brand, letter = maker.word("brand"), rng.choice("KKKk")
    name = f"{brand} {analyte} {rng.choice(_KITS)}"
    analyzer = f"{maker.word('brand')} {rng.choice(('AX', 'CS', 'LT', 'DX'))}-{rng.randint(2, 90) * 10} Analyzer"
    predicate = f"{maker.word('brand')} {analyte} {rng.choice(_KITS)}"
    code = "".join(rng.choice("CDGJLMNOPQ") for _ in range(3))
    kind = rng.choice(("Quantitative", "Quantitative", "Semi-quantitative"))
    names = (name, f"{name} {brand} {analyte} Calibrators", f"{name} {brand} {analyte} Controls")
    facts = {
        "510(k) number": _number(rng, letter),
        "purpose for submission": rng.choice(_PURPOSES),
        "measurand": analyte,
        "type of test": f"{kind} {technique}",
        "applicant": maker.company(),
        "proprietary and established names": rng.choice(names),
        "regulation section": f"21 CFR §{section}{rng.randint(100, 989)}, {analyte} test system",
        "classification": rng.choice(("Class II", "Class II", "Class I")),
        "product code": f"{code}, {technique}, {analyte.lower() if analyte[1:2].islower() else analyte}",
        "panel": panel,
        "intended use": f"The {name} is intended for the measurement of {analyte} in human {specimen}.",
        "indications for use": f"The {name} is used as an aid in the assessment of {tells} in {rng.choice(_SITES)}.",
        "predicate device name": predicate,
        "predicate 510(k) number": _number(rng, letter),
        "proposed labeling": rng.choice(LABELING),
        "conclusion": CONCLUSION,
    }
    return Device(facts, name, analyte, specimen, unit, technique, analyzer, predicate)


def _decimal(rng: random.Random, least: float, most: float) -> str:
    return f"{rng.uniform(least, most):.2f}"


def _precision(rng: random.Random, device: Device) -> str:
    rows, mean = [], rng.uniform(1.5, 9)
    for sample in range(1, rng.randint(3, 5)):
        mean *= rng.uniform(1.8, 3.2)
        numbers = (f"{mean:.1f}", _decimal(rng, 0.2, 0.9), _decimal(rng, 1, 4), _decimal(rng, 1, 5))
        rows.append(f"Sample {sample} {rng.randint(60, 90)} {' '.join(numbers)}")
    return (
        f"{rng.randint(3, 6)} {device.specimen} samples were tested in duplicate, two runs per day for "
        f"{rng.randint(10, 20)} days on the {device.analyzer}. Sample N Mean ({device.unit}) SD Within-run %CV "
        f"Total %CV {' '.join(rows)} All results met the acceptance criterion of total CV ≤ {rng.randint(6, 15)}%."
    )


def _lots(rng: random.Random, device: Device) -> str:
    rows = (
        f"Control {number} mean {_decimal(rng, 5, 90)} between-lot CV {_decimal(rng, 1, 6)}%"
        for number in range(1, rng.randint(3, 6))
    )
    return f"Lot-to-lot reproducibility: {rng.randint(3, 5)} reagent lots were tested: {'; '.join(rows)}."


def _interference(rng: random.Random, device: Device) -> str:
    listed = (f"{name} {rng.randint(5, 900)} mg/dL" for name in rng.sample(_INTERFERENTS, rng.randint(3, 6)))
    return f"No significant interference (≤ 10%) was observed up to: {' '.join(listed)}."


def _stability(rng: random.Random, device: Device) -> str:
    return (
        f"On-board stability: recovery after {rng.randint(14, 60)} days was {rng.randint(930, 1040) / 10}% of the "
        f"initial value. Reagents are stable at 2-8°C for {rng.randint(9, 30)} months when stored unopened."
    )


def _method(rng: random.Random, device: Device) -> str:
    samples = rng.randint(80, 400)
    return (
        f"{samples} {device.specimen} samples from {rng.randint(2, 4)} sites were tested with the device and "
        f"the predicate. N Slope Intercept r {samples} {_decimal(rng, 0.92, 1.08)} {_decimal(rng, 0.1, 2)} "
        f"{rng.randint(950, 998) / 1000} The observed range was {_decimal(rng, 1, 9)} to {rng.randint(90, 900)} "
        f"{device.unit}."
    )


_EXTRA: tuple[Callable[[random.Random, Device], str], ...] = (_precision, _lots, _interference, _stability, _method)


def _extras(rng: random.Random, device: Device, count: int) -> str:
    return " ".join(rng.choice(_EXTRA)(rng, device) for _ in range(count))


def _summary(rng: random.Random, device: Device, extras: str) -> str:
    """The whole document; `extras` go to the end of the analytical performance."""
    fact, unit = device.facts, device.unit
    stray = rng.choice(("", "", "2 "))
    low = _decimal(rng, 0.2, 3)
    return " ".join(
        (
            rng.choice(("510(k) ", "")) + "SUBSTANTIAL EQUIVALENCE DETERMINATION DECISION SUMMARY",
            rng.choice(("ASSAY ONLY TEMPLATE", "ASSAY AND INSTRUMENT COMBINATION TEMPLATE")),
            f"A. 510(k) Number: {fact['510(k) number']}",
            f"B. Purpose for Submission: {fact['purpose for submission']}",
            f"C. Measurand: {fact['measurand']}",
            f"D. Type of Test: {fact['type of test']}",
            f"E. Applicant: {fact['applicant']}",
            f"F. Proprietary and Established Names: {fact['proprietary and established names']}",
            f"G. Regulatory Information: 1. Regulation section: {fact['regulation section']}",
            f"2. Classification: {fact['classification']} 3. Product code: {stray}{fact['product code']}",
            f"4. Panel: {fact['panel']} H. Intended Use: 1. Intended use(s): {fact['intended use']}",
            f"2. Indication(s) for use: {fact['indications for use']}",
            "3. Special conditions for use statement(s): For prescription use only",
            f"4. Special instrument requirements: {device.analyzer} I. Device Description: The device consists of",
            f"ready-to-use reagents sufficient for {rng.randint(2, 40) * 10} determinations. Reagent 1 contains buffer",
            f"(pH {rng.randint(60, 84) / 10}) and sodium azide (< 0.1%). Reagent 2 contains stabilizers and bovine",
            "serum albumin. J. Substantial Equivalence Information:",
            f"1. Predicate device name(s): {fact['predicate device name']}",
            f"2. Predicate 510(k) number(s): {fact['predicate 510(k) number']}",
            f"3. Comparison with predicate: Similarities Item Device Predicate Sample Type {device.specimen} Same",
            "Storage 2-8°C Same Differences Item Device Predicate",
            f"Sample Volume {rng.randint(2, 60)} µL {rng.randint(61, 150)} µL",
            f"Calibration interval {rng.randint(7, 30)} days {rng.randint(31, 90)} days",
            f"K. Standard/Guidance Document Referenced (if applicable): {' '.join(rng.sample(_GUIDELINES, 2))}",
            f"L. Test Principle: The sample is mixed with the reagents, and the signal of the {device.technique} is",
            f"compared with a stored {rng.randint(4, 7)}-point calibration curve. The first result is available after",
            f"{rng.randint(8, 45)} minutes. M. Performance Characteristics (if/when applicable):",
            f"1. Analytical performance: a. Precision/Reproducibility: {_precision(rng, device)}",
            f"b. Linearity/assay reportable range: A high sample was diluted to {rng.randint(7, 12)} levels.",
            f"The claimed measuring range is {low} to {rng.randint(100, 900)} {unit}.",
            "c. Traceability, Stability, Expected values (controls, calibrators, or methods):",
            f"The assay is traceable to an internal standard. d. Detection limit: The limit of blank is {low} {unit}.",
            f"e. Analytical specificity: {_interference(rng, device)} f. Assay cut-off: Not applicable. {extras}",
            f"2. Comparison studies: a. Method comparison with predicate device: {_method(rng, device)}",
            "b. Matrix comparison: Not applicable. 3. Clinical studies: Not applicable. 4. Clinical cut-off: Not",
            f"applicable. 5. Expected values/Reference range: Samples from {rng.randint(100, 300)} healthy adults were",
            f"tested. The central 95% interval was {_decimal(rng, 1, 9)} to {rng.randint(20, 90)} {unit}.",
            f"N. Proposed Labeling: {fact['proposed labeling']} O. Conclusion: {fact['conclusion']}",
        )
    )


def generate_summaries(split: Split, seed: int, tokens: tuple[int, int] = (1000, 2000)) -> Iterator[Page]:
    """An endless stream of summaries; the same arguments give the same documents on every machine.

    Args:
        split: `"train"` or `"test"`; company and device names of the two are disjoint.
        seed: any integer.
        tokens: least and most GPT-2 tokens of a document; a bare form has about 900.

    Returns:
        Pages with the 16 `ATTRIBUTES` as facts, every value standing literally in the text.

    Raises:
        JRTError: for an unknown split or an empty range of tokens.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    if not tokens[1] >= 1000 or tokens[0] > tokens[1]:
        raise JRTError(f"generate_summaries: tokens={tokens} must be (least, most) with least <= most, most >= 1000")
    return _summaries(split, seed, tokens)


def _summaries(split: Split, seed: int, tokens: tuple[int, int]) -> Iterator[Page]:
    number = 0
    while True:
        rng = random.Random(f"clinical/{split}/{seed}/{number}")
        device = _device(Maker(rng, split))
        text = _summary(rng, device, _extras(rng, device, rng.randint(0, 12)))
        number += 1
        if not tokens[0] <= count_tokens(text) <= tokens[1]:
            continue
        # Some PDFs give typographic hyphens throughout.
        hyphen = rng.choice(("-", "\u2010", "\u2011"))
        facts = tuple((key, value.replace("-", hyphen)) for key, value in device.facts.items())
        yield Page(f"{number - 1:03d}", "510k", text.replace("-", hyphen), facts)
