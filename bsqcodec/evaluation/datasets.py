"""The data sets of the field: their files, where these come from, how they are checked, who may use them."""

from dataclasses import dataclass, replace
from enum import Enum
from fractions import Fraction
from pathlib import Path

from bsqcodec.errors import InputError
from bsqcodec.evaluation.colour import ColourPath
from bsqcodec.evaluation.sources import Item, Kind, RawFormat, digest
from bsqcodec.media.colour import BT709


class Packing(Enum):
    """How a member comes from its host."""

    PLAIN = "a file"
    SEVEN_ZIP = "a .7z archive with one .yuv in it"
    ZIP_MEMBER = "one member of large .zip parts"


@dataclass(frozen=True)
class Member:
    """One picture or clip. file: its name in the data folder; size: its bytes; sha256: None where
    none is published; remote: its name at the host; frames, raw: of a clip."""

    name: str
    file: str
    remote: str
    size: int
    sha256: str | None = None
    frames: int = 1
    raw: RawFormat | None = None


@dataclass(frozen=True)
class DataSet:
    """host: prefix of every remote name; published: name among the published curves, by the size to which the
    set is scaled ("" for none)."""

    name: str
    title: str
    licence: str
    host: str
    packing: Packing
    members: tuple[Member, ...]
    published: dict[str, str]


KODAK_FILES = (
    ("kodim01", 736501, "a56e27cbf5f843c048b6af1d6e090760e9c92fadba88b7dee0205918a37523bd"),
    ("kodim02", 617995, "4f4b74a79237e311d72cad958237b5f7088d8bce1c82305ebefe1a70e3022dfd"),
    ("kodim03", 502888, "e25ca1ff2f0c0cb5fdfd5f9b0a0bb21ac4c3de3c84a67f35b09a85d3306249db"),
    ("kodim04", 637432, "e3b946107c5d3441c022f678d0c3caf1e224d81b1604ba840a4f88e562de61aa"),
    ("kodim05", 785610, "10349e963c5c813d327852f82c1795fa4148d69fedffc4c589bee458e3ac3d53"),
    ("kodim06", 618959, "363510303b715d4cbc384e1ce227e466b613a09e1b71ae985882bf8e7fbd9b18"),
    ("kodim07", 566322, "b77d3f006f42414bb242222e0482e750c0fb9e5ee8d4bed2f6f11c5605fe54a4"),
    ("kodim08", 788470, "ba23983c76b4832ee0e8af0592664756841a16779acd69f792e268fb6d13d6e7"),
    ("kodim09", 582899, "6a4361c2fc194feb4edaa9f9a4a0620fb9943e460ac7fdf037fb0f6dd6607a7d"),
    ("kodim10", 593463, "9dfb70f5867c29ff9ed6313683f19b3d867849e40fbc0c4c54a4a89df341cf23"),
    ("kodim11", 621023, "7936814b58b5387fce2e4e2488b4ec830dadd95fa9520f358ddb30990b50f2b6"),
    ("kodim12", 531024, "d78c37c2f04f23761ed2367dd77e2db584ddd4c3950833fecf89f199a8126980"),
    ("kodim13", 822712, "bc34a3ce58dea09dce1704c997171602de90cb34d0c8503a988b77f473d39b08"),
    ("kodim14", 692201, "55a94550ff18f3246c4074fd32b77b0c74447c26b6ad274d564d999c0450ba6e"),
    ("kodim15", 612582, "7538cbb80cb9103606c48b806eae57d56c885c7f90b9b3be70a41160f9cbb683"),
    ("kodim16", 534247, "a89c7268ccd4718ba424a99fc4643c572cf692ca6eae887185ceb4e9f11d2e54"),
    ("kodim17", 602078, "37afcc89fbdcb76d9518e04b2fc011027e2f4cd14b3b2f83cefd721641a47c5b"),
    ("kodim18", 780947, "1a9258c365988961d87a0598725b609139c303ad48a5aad6c503c3b1a87849aa"),
    ("kodim19", 671476, "b7450b264b1b0a411390d8931b112c27905a992520fc90569dc4b920aa32bbdc"),
    ("kodim20", 492462, "3b46c71e3b92a563820ba32936be8330c586c41f938efd94be938386aae4328a"),
    ("kodim21", 637051, "ac958597c82073f6bb65129c68f72b651db5b9efd82e11547d07350214bc268b"),
    ("kodim22", 701970, "1cee58eb1f2d9c7ebb254d208a03c783ce6cf2c4d8c2cf45e235dd23b4ce1b29"),
    ("kodim23", 557596, "e3111a2fd4da24af15d6459ef9eacfe54106b38e27b4a21821b75c3f5d2d5baf"),
    ("kodim24", 706397, "1071c68372cc5a01435c2c225a5cf7d4bb803846ec08bb6b3d6721b156d7cb96"),
)
UVG_CLIPS = (
    ("Beauty", "Beauty", 600),
    ("Bosphorus", "Bosphorus", 600),
    ("HoneyBee", "HoneyBee", 600),
    ("Jockey", "Jockey", 600),
    ("ReadySteadyGo", "ReadySetGo", 600),  # the archive's name differs from that of the file in it
    ("ShakeNDry", "ShakeNDry", 300),
    ("YachtRide", "YachtRide", 600),
)
MCL_JCV_RATES = {
    30: (1, 2, 3, 4, 10, 11, 12, 13, 14, 15, 16, 19, 26, 27, 28, 30),
    25: (5, 6, 7, 8, 9, 18, 20),
    24: (17, 21, 22, 23, 24, 25, 29),
}
MCL_JCV_SECONDS = 5
FULL_HD = (1920, 1080)
UNTAGGED = ColourPath(BT709, full_range=True)
"""Raw files carry no tags: BT.709 and full range, as CompressAI's and DCVC's evaluations take them."""


def _kodak() -> DataSet:
    members = tuple(
        Member(name, f"{name}.png", f"{name}.png", size, digest) for name, size, digest in KODAK_FILES
    )
    return DataSet(
        "kodak",
        "Kodak Lossless True Color Image Suite, 24 pictures 768x512",
        "released by Eastman Kodak for unrestricted use (r0k.us/graphics/kodak)",
        "http://r0k.us/graphics/kodak/kodak/",
        Packing.PLAIN,
        members,
        {"": "kodak"},
    )


def _uvg() -> DataSet:
    raw = RawFormat(*FULL_HD, Fraction(120))
    members = tuple(
        Member(
            name,
            f"{name}_1920x1080_120fps_420_8bit_YUV.yuv",
            f"{archive}_1920x1080_120fps_420_8bit_YUV_RAW.7z",
            frames * raw.frame_bytes,
            frames=frames,
            raw=raw,
        )
        for name, archive, frames in UVG_CLIPS
    )
    return DataSet(
        "uvg",
        "UVG, the 7 classic clips at 1920x1080, 120 frames/s, 8 bit (Mercat et al., MMSys 2020)",
        "CC BY-NC 3.0, non-commercial use (ultravideo.fi; look there for the terms in force)",
        "https://ultravideo.fi/video/",
        Packing.SEVEN_ZIP,
        members,
        {"": "UVG-1080p"},
    )


def _mcl_jcv() -> DataSet:
    members = []
    for rate, numbers in MCL_JCV_RATES.items():
        raw = RawFormat(*FULL_HD, Fraction(rate))
        frames = rate * MCL_JCV_SECONDS
        for number in numbers:
            name = f"videoSRC{number:02d}"
            file = f"{name}_1920x1080_{rate}.yuv"
            remote = f"1080P/YUV_source/{file}"
            size = frames * raw.frame_bytes
            members.append(Member(name, file, remote, size, frames=frames, raw=raw))
    return DataSet(
        "mcl-jcv",
        "MCL-JCV, 30 clips 1920x1080 of 5 seconds (Wang et al., ICIP 2016)",
        "research use, terms of the Media Communications Lab, USC (mcl.usc.edu/mcl-jcv-dataset)",
        "https://huggingface.co/",
        Packing.ZIP_MEMBER,
        tuple(sorted(members, key=lambda member: member.name)),
        {"": "MCL-JCV", "640x360": "MCL-JCV-360p"},
    )


DATA_SETS = {data_set.name: data_set for data_set in (_kodak(), _uvg(), _mcl_jcv())}


def data_set(name: str) -> DataSet:
    """The data set of this name; InputError with the names there are."""
    if name not in DATA_SETS:
        raise InputError(f"{name}: no such data set; there are {', '.join(DATA_SETS)}")
    return DATA_SETS[name]


def members_of(data_set: DataSet, only: tuple[str, ...]) -> tuple[Member, ...]:
    """The members of these names, all where none is given; InputError for a name that is not in the set."""
    known = {member.name: member for member in data_set.members}
    if unknown := [name for name in only if name not in known]:
        raise InputError(f"{unknown[0]}: not in {data_set.name}; there are {', '.join(known)}")
    return tuple(known[name] for name in only) if only else data_set.members


def items_of(data_set: DataSet, folder: Path, only: tuple[str, ...] = ()) -> list[Item]:
    """The set's members as they lie in `folder`, checked; InputError for the first that is at fault.

    A picture is checked by its SHA-256, a raw clip by its size: whole frames, not more than the set's.
    """
    items = []
    for member in members_of(data_set, only):
        path = folder / member.file
        fault = fault_of(member, path)
        if fault is not None:
            raise InputError(f"{path}: {fault}; `bsqc data fetch {data_set.name}` gets it")
        kind = Kind.STILL if member.raw is None else Kind.CLIP
        item = Item(member.name, path, kind, raw=member.raw)
        items.append(item if member.raw is None else replace(item, colour=UNTAGGED))
    return items


def fault_of(member: Member, path: Path) -> str | None:
    """What is wrong with a member's file, None where nothing is."""
    if not path.is_file():
        return "missing"
    size = path.stat().st_size
    if member.raw is not None:
        if size == 0 or size % member.raw.frame_bytes or size > member.size:
            frames = f"{member.raw.frame_bytes} bytes a frame, at most {member.frames} frames"
            return f"{size} bytes, which are not those of the clip ({frames})"
        return None
    if size != member.size:
        return f"{size} bytes, {member.size} were expected"
    if digest(Item(member.name, path, Kind.STILL)) != member.sha256:
        return "its SHA-256 is not that of the published file"
    return None
