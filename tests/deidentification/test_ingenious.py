"""Beyond the list: where else an identifier could ride along, tried by someone who wants it to."""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import replace
from io import BytesIO

import nibabel
import numpy as np
import pydicom.uid as uids
import pytest
from hospital import intake, take
from images import J2K, JPEG_LS, RLE, ct, ct_pixels, image_elements, in_syntax, mr, octets, us
from PIL import Image, PngImagePlugin
from planting import Plant
from rawdicom import EXPLICIT, E, e, fragments
from scanner import Secret

from fedimg.values import SourceItem

NUMERIC = (
    "WindowCenter", "WindowWidth", "SliceThickness", "KVP", "ImagePositionPatient", "PixelSpacing", "SliceLocation",
    "RescaleIntercept", "TableHeight", "ReconstructionDiameter", "FocalSpots", "InstanceNumber", "AcquisitionNumber",
    "ExposureTime", "XRayTubeCurrent", "ImagesInAcquisition", "PixelAspectRatio", "LossyImageCompressionRatio",
)  # fmt: skip


@pytest.mark.parametrize("keyword", NUMERIC)
@pytest.mark.parametrize("place", ["alone", "second", "fraction"])
def test_the_patients_number_in_a_numeric_attribute(tmp_path, profile, keyword, place):
    """Alone, as one more value, or behind the point."""
    number = "88213947"
    value = {"alone": number, "second": f"1\\{number}", "fraction": f"1.{number}"}[place]
    file = ct(PatientID=number).having(e(keyword, value))
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks({keyword: number}) == []


def test_letters_in_numeric_attributes(tmp_path, profile):
    plant = Plant()
    found = [e(k, f"1 {plant.word(k)}"[:16]) for k in NUMERIC]
    taken = take(tmp_path, ct().having(*found), profile=profile)
    assert taken.leaks(plant.secrets) == []


@pytest.mark.parametrize("vr", ["FD", "UL", "US", "AT", "SL", "FL"])
def test_a_name_as_the_bytes_of_binary_numbers(tmp_path, profile, vr):
    """Sixteen bytes of ASCII are two FD, four UL, eight US; the name is the patient's own."""
    word = "THROCKMORTONBURY"
    kept = {
        "FD": ("ReferencePixelPhysicalValueX", "PhysicalDeltaX"),
        "UL": ("RegionFlags", "TransducerFrequency"),
        "US": ("RegionDataType", "PhysicalUnitsXDirection"),
        "SL": ("ReferencePixelX0", "ReferencePixelY0"),
        "AT": ("FrameIncrementPointer",),
        "FL": ("TableOfPixelValues",),
    }[vr]
    file = us(PatientName=word)
    region = list(file.elements[0x00186011].value[0])
    width = {"FD": 8, "UL": 4, "US": 2, "SL": 4, "AT": 16, "FL": 16}[vr]
    for n, keyword in enumerate(kept):
        part = word.encode() if vr in ("AT", "FL") else word.encode()[n * width : (n + 1) * width]
        region = [x for x in region if x.tag != e(keyword).tag]
        region.append(e(keyword, part, vr))
    region.sort(key=lambda x: x.tag)
    matrix = e("AcquisitionMatrix", word.encode()[:8], "US")
    file = file.having(E(0x00186011, "SQ", [region]), matrix, e("FrameIncrementPointer", word.encode(), "AT"))
    taken = take(tmp_path, file, profile=profile)
    whole = {"name": Secret(word), "first half": Secret(word[:8])}
    assert taken.leaks(whole) == []


def test_names_as_coded_strings(tmp_path, profile):
    plant = Plant()
    keywords = (
        "ImageType", "ScanOptions", "SequenceVariant", "PatientPosition", "RotationDirection", "ConversionType",
        "VOILUTFunction", "PresentationLUTShape", "PixelIntensityRelationship", "LossyImageCompressionMethod",
        "ImageLaterality", "QualityControlImage", "PresentationIntentType", "ColorSpace", "LossyImageCompression",
    )  # fmt: skip
    found = [e(k, f"NONE\\{plant.word(k)[:16]}" if k != "ImageType" else "") for k in keywords]
    kind = e("ImageType", f"ORIGINAL\\PRIMARY\\AXIAL\\{plant.word('ImageType value 4')[:16]}")
    plant.secrets.pop("ImageType", None)
    taken = take(tmp_path, ct().having(*found, kind), profile=profile)
    planted = {place: Secret(secret.value[:12]) for place, secret in plant.secrets.items()}
    assert taken.leaks(planted) == []
    assert taken.only


def test_numbers_in_uids(tmp_path, profile):
    """The patient's number as a component of UIDs that a profile keeps, keys or calls registered."""
    number = "88213947"
    uid = f"1.2.840.99999.{number}.7"
    item = [
        e("CodeValue", "39607008"),
        e("CodingSchemeDesignator", "SCT"),
        e("CodeMeaning", "Lung"),
        e("ContextUID", uid),
        e("MappingResourceUID", uid),
        e("CodingSchemeUID", uid, "UI"),
    ]
    reference = [e("ReferencedSOPClassUID", uid), e("ReferencedSOPInstanceUID", uid)]
    file = ct(PatientID=number, StudyInstanceUID=uid).having(
        e("AnatomicRegionSequence", [item]),
        e("ReferencedImageSequence", [reference]),
        e("FrameOfReferenceUID", f"1.2.840.10008.1.2.1.{number}"),
        e("SeriesInstanceUID", f"1.2.840.10008.{number}"),
        e("OriginalSpecializedSOPClassUID", uid, "UI"),
        e("RelatedGeneralSOPClassUID", uid),
        e("UID", uid),
    )
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks({"number": number, "uid": uid}) == []


def test_text_in_luts_and_palettes(tmp_path, profile):
    """The patient's own name as entries of every table of numbers that an image may carry."""
    word = "Throckmortonbury"
    data = word.encode() + b"  "
    lut = [
        e("LUTDescriptor", (len(data) // 2, 0, 16), "US"),
        e("LUTExplanation", f"made for {word}"),
        e("ModalityLUTType", word, "LO"),
        e("LUTData", data, "OW"),
    ]
    files = {
        "voi": ct(PatientName=word).having(e("VOILUTSequence", [lut])),
        "modality": mr(PatientName=word).having(e("ModalityLUTSequence", [lut])),
    }
    palette = [e("PhotometricInterpretation", "PALETTE COLOR")]
    for name in ("Red", "Green", "Blue"):
        table = data.ljust(512, b"\0")
        palette.append(e(f"{name}PaletteColorLookupTableDescriptor", (256, 0, 16), "US"))
        palette.append(e(f"{name}PaletteColorLookupTableData", table, "OW"))
        palette.append(e(f"Segmented{name}PaletteColorLookupTableData", table, "OW"))
    grey = us(octets(96), (0, 0, 95, 95), PatientName=word)
    files["palette"] = grey.having(*palette)
    files["icc"] = us(PatientName=word).having(e("ICCProfile", b"\0\0\0\x40" + word.encode() * 3))
    for name, file in files.items():
        taken = take(tmp_path / name, file, profile=profile)
        assert taken.leaks({name: word}) == []


def test_text_in_numbers_that_is_nowhere_else(tmp_path, profile):
    """No search knows these letters: they are seen as letters."""
    plant = Plant()

    def table(place: str) -> tuple[bytes, list[E]]:
        data = plant.text(place).encode()
        data += b" " * (len(data) % 2)
        return data, [e("LUTDescriptor", (len(data) // 2, 0, 16), "US"), e("LUTData", data, "OW")]

    _, lut = table("VOI")
    numbers = [
        e("TriggerTimeOffset", plant.text("FD")[:8].ljust(8).encode(), "FD"),
        e("AcquisitionMatrix", plant.text("US")[:8].ljust(8).encode(), "US"),
    ]
    taken = take(tmp_path, mr().having(e("VOILUTSequence", [lut]), *numbers), profile=profile)
    assert taken.only
    assert taken.leaks(plant.secrets) == []
    assert "VOILUTSequence" not in taken.dataset
    # What the pixels mean cannot be dropped.
    _, lut = table("modality")
    held = take(tmp_path / "held", mr().having(e("ModalityLUTSequence", [lut])), profile=profile)
    assert held.reasons == ("unsafe_structure",)
    data, _ = table("palette")
    colours = [e("PhotometricInterpretation", "PALETTE COLOR")]
    for name in ("Red", "Green", "Blue"):
        colours.append(e(f"{name}PaletteColorLookupTableDescriptor", (len(data) // 2, 0, 16), "US"))
        colours.append(e(f"{name}PaletteColorLookupTableData", data, "OW"))
    grey = us(octets(96), (0, 0, 95, 95))
    held = take(tmp_path / "colours", grey.having(*colours), profile=profile)
    assert held.reasons == ("pixels_undecodable",)


@pytest.mark.parametrize("syntax", [EXPLICIT, RLE, JPEG_LS, J2K])
@pytest.mark.parametrize("codec", ["none", "jpeg-ls"])
def test_the_patients_name_as_pixel_values(tmp_path, profile, syntax, codec):
    """A watermark: the letters' codes are the grey values of the first row."""
    word = b"Throckmortonbury"
    eight = octets(96).copy()
    eight[0, : len(word)] = np.frombuffer(word, np.uint8)
    sixteen = ct_pixels(96).copy()
    sixteen[0, : len(word)] = np.frombuffer(word, np.uint8)
    for name, file in {"8": us(eight, (0, 0, 95, 95)), "16": mr(sixteen)}.items():
        named = in_syntax(file.having(e("PatientName", word.decode())), syntax)
        taken = take(tmp_path / name, named, profile=profile, recompress=codec)
        assert taken.leaks({name: word.decode()}) == []


def test_text_between_and_behind_the_segments_of_rle(tmp_path, profile):
    plant = Plant()
    file = in_syntax(mr(), RLE)
    frame = file.elements[0x7FE00010].value[8 + 8 :]
    count, *offsets = struct.unpack("<16I", frame[:64])
    text = plant.text("between").encode()
    text += b" " * (len(text) % 2)
    first, second = offsets[:2]
    shifted = [first, second + len(text), *([0] * 13)]
    head = struct.pack("<16I", count, *shifted)
    padded = plant.text("unused offsets").encode()[:48]
    head = head[:16] + padded.ljust(48, b"\0") if len(padded) <= 48 else head
    body = frame[64:second] + text + frame[second:] + plant.text("behind").encode()
    pixels = E(0x7FE00010, "OB", fragments([head + body]), undefined=True)
    taken = take(tmp_path, file.having(pixels), profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert len(taken.released) + len(taken.reasons) == 1


def test_extended_offset_table_and_pixel_data_url(tmp_path, profile):
    plant = Plant()
    file = in_syntax(ct(), JPEG_LS).having(
        E(0x7FE00001, "OV", plant.text("offsets").encode().ljust(64, b"\0")[:64]),
        E(0x7FE00002, "OV", plant.text("lengths").encode().ljust(64, b"\0")[:64]),
        E(0x00287FE0, "UR", "https://pacs/" + plant.word("PixelDataProviderURL")),
    )
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []


def test_spectral_and_floating_pixels(tmp_path, profile):
    plant = Plant()
    message = plant.text("float pixels").encode().ljust(96 * 96 * 4, b"\0")
    file = ct().without("PixelData").having(E(0x7FE00008, "OF", message), e("BitsAllocated", (32,)))
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []


def test_input_that_says_it_is_clean(tmp_path, profile):
    """PatientIdentityRemoved = YES counts for nothing, and its method text goes too."""
    plant = Plant()
    file = ct(PatientName=plant.name("name")).having(
        e("PatientIdentityRemoved", "YES"),
        e("BurnedInAnnotation", "NO"),
        e("RecognizableVisualFeatures", "NO"),
        e("DeidentificationMethod", f"fedimg {profile} 1\\profile {plant.word('digest')}\\seal " + "0" * 32),
        e(
            "DeidentificationMethodCodeSequence",
            [[e("CodeValue", "113101"), e("CodeMeaning", plant.text("code"))]],
        ),
        e("StudyDescription", plant.text("description")),
    )
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only


@pytest.mark.parametrize("how", ["value", "private", "preamble", "trailing", "meta", "pixels", "item"])
def test_its_own_release_with_something_added(tmp_path, profile, how):
    """The seal is no pass: what was added to a sealed file does not come along."""
    plant = Plant()
    first = take(tmp_path / "first", ct(), profile=profile)
    dataset, tail, preamble = first.dataset, b"", bytes(128)
    if how == "value":
        dataset.StudyDescription = plant.text(how)
    elif how == "private":
        dataset.add_new(0x00090010, "LO", plant.text(how))
    elif how == "preamble":
        preamble = plant.text(how).encode().ljust(128, b"\0")
    elif how == "trailing":
        tail = plant.text(how).encode()
    elif how == "meta":
        dataset.file_meta.ImplementationVersionName = plant.word(how)[:16]
        plant.secrets[how] = Secret(plant.secrets[how].value[:14])
    elif how == "item":
        dataset.DeidentificationMethodCodeSequence[0].CodeMeaning = plant.text(how)
    else:
        frame = dataset.PixelData
        dataset.PixelData = frame[:-8] + b"\0" * (-len(frame) % 2) + plant.text(how).encode() + frame[-8:]
    dataset.preamble = preamble
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=False)
    taken = take(tmp_path / "second", buffer.getvalue() + tail, profile=profile)
    assert taken.leaks(plant.secrets) == []


def test_dimension_organisation_and_frame_text(tmp_path, profile):
    plant = Plant()
    index = [
        e("DimensionIndexPointer", (0x00200032,)),
        e("DimensionIndexPrivateCreator", plant.text("creator")),
        e("DimensionDescriptionLabel", plant.text("label")),
        e("DimensionOrganizationUID", plant.uid("organisation")),
    ]
    shared = [
        e("FrameAnatomySequence", [[e("FrameLaterality", "U"), e("ViewName", plant.text("view"), "LO")]]),
        e("PixelMeasuresSequence", [[e("PixelSpacing", "1\\1"), e("SliceThickness", "1")]]),
        e("UnassignedSharedConvertedAttributesSequence", [[e("PatientName", plant.name("unassigned"))]]),
        e("ReferencedImageSequence", [[e("ReferencedSOPInstanceUID", plant.uid("reference"))]]),
        e(
            "RealWorldValueMappingSequence",
            [[e("LUTExplanation", plant.text("mapping")), e("LUTLabel", "X")]],
        ),
    ]
    file = ct(ImageType="ORIGINAL\\PRIMARY\\VOLUME\\NONE").having(
        e("SOPClassUID", uids.EnhancedCTImageStorage),
        *image_elements(np.stack([ct_pixels(48, n) for n in range(2)]), 12),
        e("DimensionIndexSequence", [index]),
        e("SharedFunctionalGroupsSequence", [shared]),
        e("PerFrameFunctionalGroupsSequence", [[], []]),
    )
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert len(taken.released) + len(taken.reasons) == 1


def test_radiopharmaceutical_of_a_pet(tmp_path, profile):
    plant = Plant()
    item = [
        e("Radiopharmaceutical", plant.text("name")),
        e("RadiopharmaceuticalStartDateTime", plant.of("DT", "start")),
        e("RadiopharmaceuticalStopDateTime", plant.of("DT", "stop")),
        e("RadiopharmaceuticalAdministrationEventUID", plant.uid("event")),
        e("RadionuclideTotalDose", "370000000"),
        e("RadionuclideCodeSequence", [[e("CodeValue", "C-111A1"), e("CodeMeaning", plant.text("nuclide"))]]),
    ]
    file = ct(SOPClassUID=uids.PositronEmissionTomographyImageStorage, Modality="PT").having(
        e("RadiopharmaceuticalInformationSequence", [item]), e("Units", "BQML"), e("DecayCorrection", "START")
    )
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only


def test_character_set_and_time_zone_as_carriers(tmp_path, profile):
    plant = Plant()
    file = ct(SpecificCharacterSet=f"ISO_IR 192\\{plant.word('charset')}").having(
        e("TimezoneOffsetFromUTC", f"+0100 {plant.word('zone')}"),
        e("StudyTime", f"101500.{plant.number('time')}"),
        e("AcquisitionTime", plant.word("another time")),
        e("PatientAge", plant.word("age")[:4]),
        e("NumberOfFrames", "1"),
    )
    plant.secrets.pop("age")
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("CHEST^AXIAL", "1"), ("NONE^ORIGINAL", "12"), ("LUNG^LEFT", "CT"), ("HFS^AP", "0"), ("DICOM^Basic", "100"),
        ("FEDIMG^PROFILE", "25"), ("ISO^IR", "512"), ("Thorax^Removed", "YES"),
    ],
)  # fmt: skip
def test_patients_with_names_of_the_vocabulary_are_released(tmp_path, profile, name, number):
    """A name that a closed vocabulary spells identifies nobody there; holding such files back would be a loss."""
    taken = take(tmp_path, ct(PatientName=name, PatientID=number), profile=profile)
    assert len(taken.released) == 1, taken.reasons


def test_a_hundred_thousand_private_elements(tmp_path, profile):
    plant = Plant()
    many = [E((0x0009 + 2 * n) << 16 | 0x10, "LO", plant.word(f"creator {n}")) for n in range(300)]
    many += [E(0x70010010, "LO", "ACME")]
    many += [E(0x70010000 | 0x1000 + n, "LO", "x") for n in range(256)]
    taken = take(tmp_path, ct().having(*many), profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only


def test_names_disguised_in_kept_or_described_text(tmp_path, profile):
    """Reversed, spaced out, in other scripts' letters, in base64, compressed: nothing of free text stays."""
    import base64

    word = "Throckmortonbury"
    disguises = (
        word[::-1], " ".join(word), "_".join(word), base64.b64encode(word.encode()).decode(), word.encode().hex(),
        word.translate(str.maketrans("oca", "оса")), word.encode("utf-16-be").decode("latin-1"),
    )  # fmt: skip
    for n, text in enumerate(disguises):
        file = ct(PatientName=word).having(
            e("StudyDescription", text[:64]), e("SeriesDescription", text[:64]), e("ProtocolName", text[:64])
        )
        taken = take(tmp_path / str(n), file, profile=profile)
        planted = (
            {f"disguise {n}": Secret(text)} if sum(map(str.isalnum, text)) >= 8 else {"plain": Secret(word)}
        )
        assert taken.leaks(planted) == []
        assert taken.only


def nifti(plant: Plant) -> bytes:
    """A NIfTI-1 file with text in every field and extension that can hold one."""
    image = nibabel.Nifti1Image(ct_pixels(32).astype(np.int16)[None].repeat(4, 0), np.diag([2.0, 1, 1, 1]))
    header = image.header
    header["descrip"] = plant.text("descrip").encode()[:79]
    header["aux_file"] = plant.word("aux_file").encode()[:23]
    header["db_name"] = plant.word("db_name").encode()[:17]
    header["intent_name"] = plant.word("intent_name").encode()[:15]
    header["data_type"] = plant.word("data_type").encode()[:9]
    plant.secrets["data_type"] = Secret(plant.secrets["data_type"].value[:9])
    plant.secrets["intent_name"] = Secret(plant.secrets["intent_name"].value[:15])
    plant.secrets["db_name"] = Secret(plant.secrets["db_name"].value[:17])
    for code in (0, 4, 6):
        text = plant.text(f"extension {code}").encode()
        header.extensions.append(nibabel.nifti1.Nifti1Extension(code if code != 2 else 6, text))
    return image.to_bytes()


@pytest.mark.parametrize("packed", [False, True])
def test_nifti(tmp_path, profile, packed):
    plant = Plant()
    data = nifti(plant) + plant.text("behind the voxels").encode()
    if packed:
        buffer = BytesIO()
        with gzip.GzipFile(plant.word("gzip name"), "wb", fileobj=buffer, mtime=0) as file:
            file.write(data)
        data = buffer.getvalue()
    path = tmp_path / f"{plant.word('file')}.nii{'.gz' if packed else ''}"
    path.write_bytes(data)
    taken = intake(
        tmp_path, [SourceItem(path, "nifti", patient_id=plant.number("id"), label=0)], profile=profile
    )
    inside = {place: secret for place, secret in plant.secrets.items() if place != "gzip name" or packed}
    assert taken.leaks(inside) == []
    for released in taken.released:
        plain = gzip.decompress(released).lower()
        assert not any(secret.value.encode() in plain for secret in inside.values())
    assert len(taken.released) + len(taken.reasons) == 1


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_pictures(tmp_path, profile, kind):
    plant = Plant()
    picture = Image.fromarray(octets(96))
    buffer = BytesIO()
    exif = Image.Exif()
    exif[0x010E], exif[0x013B], exif[0x8298] = (plant.text(f"exif {n}") for n in range(3))
    if kind == "png":
        info = PngImagePlugin.PngInfo()
        info.add_text("Patient", plant.name("tEXt"))
        info.add_text("Comment", plant.text("zTXt"), zip=True)
        info.add_itxt("Note", plant.text("iTXt"), zip=True)
        picture.save(buffer, "PNG", pnginfo=info, exif=exif)
    else:
        picture.save(buffer, "JPEG", exif=exif, comment=plant.text("COM").encode())
    path = tmp_path / f"{plant.word('file')}.{kind}"
    path.write_bytes(buffer.getvalue() + plant.text("behind the end").encode())
    taken = intake(
        tmp_path, [SourceItem(path, "image", patient_id=plant.number("id"), label=0)], profile=profile
    )
    assert taken.leaks(plant.secrets) == []
    assert len(taken.released) + len(taken.reasons) == 1


def test_zlib_bomb_and_text_behind_it(tmp_path, profile):
    plant = Plant()
    packer = zlib.compressobj(wbits=-15)
    body = packer.compress(plant.text("inside").encode() * 2000) + packer.flush()
    file = replace(ct(), syntax=EXPLICIT).having(E(0x00091010, "OB", body + b"\0" * (len(body) % 2)))
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only
