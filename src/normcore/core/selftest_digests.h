/* Made by tests/c/selftest_digests.c; the contract is NC1. */
{
    0x069621cbca37aadau, /* fma */
    0x8845089d3949c9ecu, /* affine_forward */
    0x9491973a20be6311u, /* affine_backward */
    0x9590654c53f74e8au, /* relu */
    0x0c0bec42d2efbee9u, /* softmax */
    0x8edeb30bb0e2787du, /* log_softmax */
    0x6056abc0dfcbad85u, /* cross_entropy */
    0x2dea886948ffbc9du, /* batch_norm_forward */
    0xadf47c64763dbddau, /* batch_norm_backward_fused */
    0x6f89707dcd2bbce6u, /* batch_norm_backward_graph */
    0x7558b56d5d91b0e1u, /* layer_norm_forward */
    0x596c0d926bbd76c0u, /* layer_norm_backward */
    0x26074ad31b6a27ebu, /* random */
    0xe5d9280cf24d4badu, /* dropout */
    0xfffdff4e01dff8d9u, /* optimizer */
},
{
    0x5460c185b2599d6du, /* fma */
    0x802fce4216c0bc67u, /* affine_forward */
    0x7f57bb32990d0766u, /* affine_backward */
    0x6513517d9556507fu, /* relu */
    0x2d13a9883dfc5c02u, /* softmax */
    0xe27a56d4448131eeu, /* log_softmax */
    0x0b6568d1d80995e9u, /* cross_entropy */
    0xb423bd85356182a3u, /* batch_norm_forward */
    0x17c6156d4989b94bu, /* batch_norm_backward_fused */
    0x3d2505c61dbd0ef3u, /* batch_norm_backward_graph */
    0xed942d73c7edca3cu, /* layer_norm_forward */
    0x41412db739081d6du, /* layer_norm_backward */
    0x27332b9ad0548a14u, /* random */
    0xe14f6a60c053fe2fu, /* dropout */
    0x9723fc0b964b5e62u, /* optimizer */
},
