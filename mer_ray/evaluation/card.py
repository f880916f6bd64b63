"""The model card that lies in every model folder."""

from __future__ import annotations

from mer_ray.evaluation.tables import display
from mer_ray.scoring.store import Model
from mer_ray.tables import DIMENSIONS


def card(model: Model) -> str:
    """Markdown for a person who finds the folder."""
    details, feature = model.details, model.feature
    settings = details["settings"]
    source = f"{feature.sample_rate_hz:,} Hz" if feature.sample_rate_hz else "frames that were brought along"
    if feature.excerpt is not None:
        source += f" of {feature.excerpt['seconds']:g} s ({feature.excerpt['place']}) of each track"
    lines = [
        f"# {display(model.network)} on {display(feature.name)}",
        "",
        "Predicts valence, arousal and dominance (each 0..1) of music from its audio.",
        f"An ensemble of {len(model.members)} networks, {settings['members']} for each of {settings['folds']} folds.",
        "",
        f"- Data: {details['n_tracks']:,} tracks by {details['n_artists']:,} artists, fingerprint `{details['data']}`.",
        f"- Feature: {feature.name}, {source}, fingerprint `{feature.fingerprint}`;",
        "  frames of any other are refused.",
        f"- Seed {settings['seed']}, windows of {settings['window_s']:g} s, trained {details['trained_at']}.",
    ]
    if feature.note:
        lines.append(f"- Note: {feature.note}.")
    lines += [
        "",
        "Out-of-fold, no artist on both sides of a split:",
        "",
        "| Dimension | MSE | MAE | R² | Label SD | 90 % interval |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for i, dimension in enumerate(DIMENSIONS):
        m = model.metrics[dimension]
        lines.append(
            f"| {dimension.capitalize()} | {m['mse']:.4f} | {m['mae']:.4f} | {m['r2']:.3f} "
            f"| {m['label_sd']:.3f} | ± {model.radius[i]:.3f} |"
        )
    lines += [
        "",
        "Limits: the figures hold for music like the training tracks and labels made the same way. The ensemble has",
        "heard every training track; for those, use the out-of-fold values in `predictions.parquet`.",
    ]
    return "\n".join(lines) + "\n"
