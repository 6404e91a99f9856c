"""Table 2, MSE: the student imitates all 256 channels of the teacher's BEV map."""

_base_ = ['mse_bevformer_s_r50.py']

# Of a student with history: all that differs from the single-frame student's is the data.
train_dataloader = dict(dataset=dict(type='ciba_bev.NuScenesSequenceDataset', queue_length=4))
val_dataloader = dict(dataset=dict(type='ciba_bev.NuScenesSequenceDataset'))
test_dataloader = val_dataloader
