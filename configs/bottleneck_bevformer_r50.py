"""Algorithm 1: bottlenecks of seven sizes from Object-DGCNN to BEVFormer, in one run."""

_base_ = ['bottleneck_bevformer_s_r50.py']

model = dict(
    student=dict(
        config='configs/bevformer_r50.py', checkpoint='work_dirs/bevformer_r50/epoch_24.pth'
    )
)
# Of a student with history: frames in sequences.
train_dataloader = dict(dataset=dict(type='ciba_bev.NuScenesSequenceDataset', queue_length=4))
val_dataloader = dict(dataset=dict(type='ciba_bev.NuScenesSequenceDataset'))
test_dataloader = val_dataloader
