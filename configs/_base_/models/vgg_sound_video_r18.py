# VGG-Sound, video ResNet-18.
model = dict(
    type='ciba_bev.Classifier',
    network=dict(
        type='ciba_bev.VGGSoundNetwork',
        modality='video',
        depth=18,
        feature_size=512,
        classes=100,
    ),
    inputs=['video'],
)
