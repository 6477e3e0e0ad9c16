"""Reads N42 documents with xml.etree and prints what is in them, one JSON object a line.

It shares nothing with the decoder of the package: the tests compare what both read.
"""
import json
import re
import sys
import xml.etree.ElementTree as ET

NIST = "http://physics.nist.gov/"


def local(tag):
    return tag.rsplit("}", 1)[-1]


def own(e):
    return not e.tag.startswith("{") or e.tag[1:].lower().startswith(NIST)


def kids(e, *names):
    return [c for c in e if own(c) and local(c.tag) in names]


def text(e, *names):
    for c in kids(e, *names):
        return (c.text or "").strip()
    return None


def seconds(s):
    if s is None:
        return None
    m = re.fullmatch(r"P(?:(\d+)D)?T(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?", s)
    if not m:
        return None
    d, h, mi, sec = (float(g) if g else 0.0 for g in m.groups())
    return d * 86400 + h * 3600 + mi * 60 + sec


def counts(e):
    """The channels, or None if they are no numbers."""
    if e is None:
        return None
    coding = (e.get("compressionCode") or e.get("Compression") or "None").lower()
    try:
        raw = [float(x) for x in (e.text or "").split()]
    except ValueError:
        return None
    if not coding.startswith("countedzero"):
        return raw
    out, i = [], 0
    while i < len(raw):
        if raw[i] == 0 and i + 1 < len(raw) and raw[i + 1] != 0:
            out += [0.0] * int(raw[i + 1])
            i += 2
        else:
            out.append(raw[i])
            i += 1
    return out


def summary(channels):
    if not channels:
        return None
    # A sum that an exchange of two channels changes too.
    return {"channels": len(channels), "total": sum(channels), "weighted": sum(i * c for i, c in enumerate(channels))}


def parents(root):
    return {c: p for p in root.iter() for c in p}


def read(path):
    try:
        root = ET.parse(path).getroot()
    except ET.ParseError as e:
        return {"refused": str(e)}
    data = None
    for e in root.iter():
        if local(e.tag) in ("RadInstrumentData", "N42InstrumentData"):
            data = e
            break
    if data is None:
        return {"refused": "no N42"}
    up = parents(data)
    new = local(data.tag) == "RadInstrumentData"
    spectra, gross, doses, slices, nuclides, alarms = [], [], [], [], [], []
    for e in data.iter():
        if not own(e):
            continue
        name = local(e.tag)
        if name == "Spectrum":
            real = text(e, "RealTime") if not new else text(up[e], "RealTimeDuration")
            live = text(e, "LiveTime") if not new else text(e, "LiveTimeDuration")
            data_of = kids(e, "ChannelData")
            spectra.append({
                "live": seconds(live), "real": seconds(real),
                "counts": summary(counts(data_of[0] if data_of else None)),
            })
        elif name == "GrossCounts" and new:
            data_of = kids(e, "CountData")
            gross.append({"live": seconds(text(e, "LiveTimeDuration")), "counts": summary(counts(data_of[0]))})
        elif name == "DoseRateValue":
            doses.append(float(e.text))
        elif name in ("RadMeasurement", "DerivedData"):
            o = text(e, "OccupancyIndicator")
            slices.append({
                "class": text(e, "MeasurementClassCode"), "start": text(e, "StartDateTime"),
                "occupied": None if o is None else o in ("1", "true"),
            })
        elif name == "Nuclide":
            nuclides.append({
                "name": text(e, "NuclideName"),
                "confidence": text(e, "NuclideIDConfidenceValue", "NuclideIDConfidenceIndication") or "",
                "words": text(e, "NuclideIDConfidenceDescription") or "",
                "category": text(e, "NuclideCategoryDescription", "NuclideType") or "",
            })
        elif name == "RadAlarm":
            alarms.append(text(e, "RadAlarmCategoryCode"))
    measured = [s for s in spectra + gross if s["counts"]]
    if not measured and not doses and not any(local(e.tag) == "AnalysisResults" for e in data.iter()):
        return {"refused": "nothing can be read"}
    return {
        "generation": "2012" if new else "2006", "spectra": spectra, "gross": gross, "doses": doses,
        "slices": slices if new else None, "nuclides": nuclides, "alarms": alarms,
    }


for line in sys.stdin:
    print(json.dumps(read(line.rstrip("\n"))))
