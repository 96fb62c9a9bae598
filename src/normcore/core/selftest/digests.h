/* Made by tests/c/selftest_digests.c; the contract is NC1. */
/* clang-format off */
{
    0x069621cbca37aadau, /* fma */
    0x1f2b2a8be3a18a6cu, /* affine_forward */
    0x9491973a20be6311u, /* affine_backward */
    0x9590654c53f74e8au, /* relu */
    0x3be79410d10ee68au, /* activation */
    0x0c5965390e27d5fau, /* softmax */
    0x962c25c20ba22674u, /* log_softmax */
    0x7c30f71ab4a55e6fu, /* cross_entropy */
    0x4bd37e6e7198da05u, /* batch_norm_forward */
    0x0f7bbb0f9e2a5941u, /* batch_norm_backward_fused */
    0x0dd16fc08929ce01u, /* batch_norm_backward_graph */
    0xc09a5b637c839929u, /* layer_norm_forward */
    0x434e6e12a0405e4au, /* layer_norm_backward */
    0x26074ad31b6a27ebu, /* random */
    0xe5d9280cf24d4badu, /* dropout */
    0xf2da9e661f8d5d15u, /* optimizer */
},
{
    0x5460c185b2599d6du, /* fma */
    0x2b5554caf6160003u, /* affine_forward */
    0x7f57bb32990d0766u, /* affine_backward */
    0x6513517d9556507fu, /* relu */
    0x1bc2737596efc0a2u, /* activation */
    0x5fa28265bd5fb40cu, /* softmax */
    0xe27a56d4448131eeu, /* log_softmax */
    0x56bef23dc0c1c2b7u, /* cross_entropy */
    0xb423bd85356182a3u, /* batch_norm_forward */
    0x23e70cb80adfe0dfu, /* batch_norm_backward_fused */
    0x3d2505c61dbd0ef3u, /* batch_norm_backward_graph */
    0xed942d73c7edca3cu, /* layer_norm_forward */
    0x0b6744a7b3abab33u, /* layer_norm_backward */
    0x27332b9ad0548a14u, /* random */
    0xe14f6a60c053fe2fu, /* dropout */
    0xf9383960ccd064b4u, /* optimizer */
},
