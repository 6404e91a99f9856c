"""Draw latent numbers for synthetic clips whose two modalities share some of them."""

from __future__ import annotations

import numpy as np

from ..errors import ConfigError

LATENTS = 8


def require_share(shared: float) -> None:
    """Check a share of information that two modalities have in common.

    Args:
        shared: The share.

    Raises:
        ConfigError: It is not from 0 to 1.
    """
    if not 0 <= shared <= 1:
        raise ConfigError(f'shared is {shared}; it must be from 0 to 1.')


class LatentModel:
    """Class means of eight latents per modality, some of them common to both modalities.

    Args:
        seed: Seed of the class means.
        shared: Share of the latents that both modalities have in common, 0 to 1.
        classes: Number of classes.

    Attributes:
        common: Number of common latents.

    Raises:
        ConfigError: The share is not from 0 to 1.
    """

    def __init__(self, seed: int, shared: float, classes: int) -> None:
        require_share(shared)
        self.seed = seed
        self.common = round(shared * LATENTS)
        # For common latents and for those of each modality, of which the last ones are used.
        shape = (3, classes, LATENTS)
        self.means = np.random.default_rng((seed, 0)).standard_normal(shape)

    def draw(self, label: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw the latents of a clip.

        Args:
            label: Class of the clip.
            generator: Source of the deviation from the class mean.

        Returns:
            Latents of the sound and of the picture, (8,) each, between -1 and 1; the first
            ``common`` of them are equal.
        """
        drawn = self.means[:, label] + generator.standard_normal((3, LATENTS))
        general, audio, image = np.tanh(0.5 * drawn)
        return tuple(
            np.concatenate((general[: self.common], specific[self.common :]))
            for specific in (audio, image)
        )

    def generator(self, *key: int) -> np.random.Generator:
        """Return a random generator that depends on the seed and a key.

        Args:
            *key: Any integers, the same for the same random numbers.

        Returns:
            A new generator.
        """
        return np.random.default_rng((self.seed, *key))
