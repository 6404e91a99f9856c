"""Object-DGCNN on 0.1 m voxels: the paper's teacher. First BEV level 128 x 128 x 256."""

_base_ = ['./object_dgcnn.py']

model = dict(
    # Published Object-DGCNNs start from a trained LiDAR backbone. This one is the sparse encoder
    # and the 2D backbone of mmdet3d's CenterPoint. With init_cfg=None all starts at random.
    init_cfg=dict(
        type='Pretrained',
        checkpoint='https://download.openmmlab.com/mmdetection3d/v1.0.0_models/centerpoint/'
        'centerpoint_01voxel_second_secfpn_circlenms_4x8_cyclic_20e_nus/'
        'centerpoint_01voxel_second_secfpn_circlenms_4x8_cyclic_20e_nus_20220810_030004-9061688e.pth',
        parts=['pts_middle_encoder', 'pts_backbone'],
    ),
    data_preprocessor=dict(
        voxel_layer=dict(
            max_num_points=10,
            voxel_size=[0.1, 0.1, 0.2],
            max_voxels=[90000, 120000],  # training, testing
        )
    ),
    pts_voxel_encoder=dict(type='HardSimpleVFE', num_features=5),
    pts_middle_encoder=dict(
        type='ciba_bev.SparseEncoder',
        in_channels=5,
        sparse_shape=[41, 1024, 1024],
        output_channels=128,
        encoder_channels=((16, 16, 32), (32, 32, 64), (64, 64, 128), (128, 128)),
        encoder_paddings=((0, 0, 1), (0, 0, 1), (0, 0, [0, 1, 1]), (0, 0)),
    ),
    pts_backbone=dict(
        in_channels=256, out_channels=[128, 256], layer_nums=[5, 5], layer_strides=[1, 2]
    ),
    pts_neck=dict(in_channels=[128, 256]),
)
