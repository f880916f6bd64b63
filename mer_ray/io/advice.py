"""What to do about a failure: a sentence for every reason that a row of ``failures`` can have."""

from __future__ import annotations

import re

ADVICE = {
    # collect
    "bad_duration": "Mend the row's duration_s: seconds, over 0; or leave the cell empty.",
    "bad_curve": "Mend the song's rows in the table of curves: each time once, in ascending order, and numbers.",
    "bad_label": "Mend the row's labels: numbers on the scale that collect.scale gives, with possible errors.",
    "bad_manifest": "Mend the table as the message says, or leave it out: it is no audio.",
    "bad_row": "Mend the row: as many cells as the header, quoted where they hold the separator; in JSON, an object.",
    "bad_split": "Mend the row's split: train, valid or test; or leave the cell empty.",
    "bad_tags": "Mend the row's tags: `sad; slow`, or `sad:80; slow:20` with weights of 0 or more.",
    "bad_uri": "Mend the address: a path, http(s)://, s3://, gs:// or another store's.",
    "other_label": "Give one row a track, with the mean over raters as its label: the first of these rows was taken.",
    "duplicate": "Nothing, if they are the same music: one is kept. Else tell them apart by title, or give track_id.",
    "incomplete": "Give the row an artist and a title, or a path; or track_id alone, where no row has either.",
    "lastfm_error": "Run `mer-ray collect` again; if it comes back, ask Last.fm for that track by hand.",
    "malformed": "Nothing: Last.fm lists no artist or title for it.",
    "not_asked": "Run `mer-ray collect` without --offline: it goes on where it was.",
    "not_found": "Check the spelling of artist and title; or give the music as files (acquire.folder, or a uri).",
    "off_topic": "Nothing, if it is not what you look for; else lower collect.min_seed_weight.",
    "page_unreachable": "Run `mer-ray collect` again later: it asks for that page of the listing, and its tracks.",
    # label
    "low_coverage": "Lower label.min_coverage, or take a larger lexicon.",
    "no_known_tag": "Take a larger lexicon (label.lexicon), or give the track a label in a manifest.",
    "no_label": "Give the manifest a label for it (columns of collect.dimensions); or set label.lexicon for its tags.",
    "no_tags": "Nobody has tagged it: give it tags or a label in a manifest, or score it with a model.",
    "too_few_terms": "Lower label.min_terms, or take a larger lexicon.",
    # acquire
    "bad_spotify_id": "Mend or remove its spotify_id in the manifest: 22 letters and digits.",
    "bad_url": "Mend its uri in the manifest: a complete http:// or https:// address.",
    "no_audio": "Put the file in acquire.folder as “Artist - Title”, or give its path or URL as uri in the manifest.",
    "no_driver": "Install or set up what the message names, then run with --retry-failed.",
    "private_address": "Give the file by its path; or, of a manifest that you trust, set acquire.allow_private=true.",
    "rate_limited": "Run again later; lower acquire.per_host if it comes back.",
    "savify_error": "Run again; if it comes back, bring yt-dlp up to date (pip install -U yt-dlp yt-dlp-ejs).",
    "timeout": "Run again; raise acquire.timeout_s for slow places.",
    "too_big": "Raise acquire.max_mb, if that file is meant.",
    "unreachable": "Check the network and the address, then run again.",
    "wrong_duration": "Another version was found: give the file yourself, or raise acquire.duration_tolerance.",
    "wrong_title": "Another piece was found: give its spotify_id or the file, or lower acquire.min_similarity.",
    # score
    "credentials": "Take user, password and keys out of the address: give them to the store by its environment.",
    # tag
    "changed": "Score the file again, then tag it: it is not what was scored.",
    "damaged_tags": "Mend its tags with a tag editor, or remove them; then tag it again.",
    "linked": "Copy the file, so that it has one name, then tag it again.",
    "read_only": "Make the file and its folder writable, then tag it again.",
    "unsafe": "Nothing: it was left as it is; convert it to another format to tag it.",
    "unsupported": "Convert it to a format that can hold tags, such as FLAC, Ogg, MP3 or M4A.",
    "unwritable": "See what the message says (disk, rights, a mount that is gone), then tag it again.",
    # decoding
    "cancelled": "Its channels are each other's opposite: take one (ffmpeg -i IN -af 'pan=mono|c0=c0' OUT.flac).",
    "corrupt": "Get the file again: it is damaged, or no audio.",
    "crashed": "Get the file again, or convert it (ffmpeg -i IN OUT.flac), then run with --retry-failed.",
    "empty": "Get the file again: there is nothing in it.",
    "missing": "Put the file back, or mend its path; then run with --retry-failed.",
    "no_space": "Free some space for temporary files, or set TMPDIR to another folder; the next run tries again.",
    "needs_rendering": "Make a recording of it (FluidSynth for MIDI, openmpt123 for modules), and give that file.",
    "not_finite": "Convert the file (ffmpeg -i IN OUT.flac): it holds numbers that are no sound.",
    "protected": "Give a copy without encryption, as bought or ripped from a disc; nothing here can read this one.",
    "silent": "Get the file again: there is no sound in it.",
    "stuck": "Convert the file (ffmpeg -i IN OUT.flac), then run with --retry-failed.",
    "too_short": "Nothing, for a jingle; else get the whole file, or lower extract.min_duration_s.",
    "truncated": "Get the file again: its end or parts of it are missing; or use what there is with --allow-partial.",
    "unreadable": "See what the message says (rights, disk, a mount that is gone), then run with --retry-failed.",
    # features
    "ambiguous": "Give more of the paths in the file of features, or track_id, so that each row is of one track.",
    "bad_frames": "Mend the row in the file of features: frames of the same width as the others.",
    "no_frames": "Add the track to the file of features, or leave that feature out of extract.features.",
    "not_computed": "See the message: the model fails on this file. Mend either, then run with --retry-failed.",
    "too_long": "Use a part of it (extract.excerpt), or raise extract.hub.NAME.max_s.",
    "worker_died": "Give workers more memory, or use a part of it (extract.excerpt); then run with --retry-failed.",
    # train
    "trial_failed": "See the trial's log under tune/, then run `mer-ray train` again: it goes on where it was.",
}


def advice(reason: str) -> str:
    """What to do about failures of that reason; empty for one that is not known."""
    if reason.startswith("http_"):
        status = reason.removeprefix("http_")
        if status in ("401", "403"):
            return "The server wants a login, or refuses: get the file by hand and give its path."
        if status in ("404", "410"):
            return "It is gone from there: mend its uri in the manifest."
        return "Run again later; if it comes back, mend its uri in the manifest."
    return ADVICE.get(reason, "")


_BESIDE_THE_FILE = {
    *("crashed", "missing", "no_driver", "no_space", "not_computed", "rate_limited", "savify_error", "stuck"),
    *("timeout", "unreachable", "unreadable", "worker_died"),
}


def of_environment(reason: str) -> bool:
    """Whether a failure may be due to a machine, a disk or a network, and not to the file itself."""
    return reason in _BESIDE_THE_FILE or re.fullmatch("http_5..|http_429", reason) is not None
