"""Suffixes of audio files, by which folders are searched. The content decides a file's format."""

from __future__ import annotations

_LIBSNDFILE = (
    ".8svx .aif .aifc .aiff .au .avr .bwf .caf .flac .iff .ircam .mp1 .mp2 .mp3 .mpa .nist .oga .ogg .opus .paf .pvf "
    ".rf64 .sf .snd .sph .svx .voc .w64 .wav .wave"
)
_FFMPEG = (
    ".adx .ast .bcstm .bfstm .brstm .hca .mlp .mmf .sox .thd "
    ".16sv .aa3 .aac .aax .ac3 .adts .afc .amr .ape .apl .at3 .awb .dff .dsf .dts .dtshd .eac3 .ec3 .f4a .m2a .m4a "
    ".m4b .m4p .m4r .mac .mka .mp+ .mpc .mpga .oma .omg .ra .shn .spx .tak .tta .weba .wma .wv .xwm .xwma"
)
_FILMS = (
    ".3g2 .3gp .asf .avi .f4v .flv .m2ts .m4v .mk3d .mkv .mov .mp4 .mpeg .mpg .mts .ogm .ogv .ogx .qt .rm .rmvb .ts "
    ".vob .webm .wmv"
)
_NOTES = (
    ".669 .ahx .amf .ay .dbm .far .gbs .gym .hes .hvl .it .kar .kss .med .mid .midi .minipsf .mod .mptm .mtm .nsf "
    ".nsfe .okt .psf .psf2 .ptm .rmi .s3m .sap .sid .smf .spc .stm .ult .umx .usf .vgm .vgz .xm .ym"
)

EXTENSIONS = frozenset(f"{_LIBSNDFILE} {_FFMPEG} {_FILMS}".split())
"""Of files with recorded sound."""

NOTES = frozenset(_NOTES.split())
"""Of files with notes instead of recorded sound: MIDI, tracker modules, the music of old consoles."""
