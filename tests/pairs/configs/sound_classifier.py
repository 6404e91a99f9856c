"""Model config: clips classified by their sound."""

default_scope = 'sight_and_sound'
custom_imports = dict(imports=['sight_and_sound'])

model = dict(
    type='ClipClassifier',
    reads='sound',
    backbone=dict(type='SoundBackbone'),
    channels=20,
    num_classes=4,
)
