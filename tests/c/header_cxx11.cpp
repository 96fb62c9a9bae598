// The header alone, from C++11, and the library behind it.
#include "normcore.h"
#include "normcore.h"

static_assert(sizeof(normcore_mlp_options) > 0, "complete type");

int main() {
    const float x[3] = {1.0f, -2.0f, 3.0f};
    float y[3];
    const normcore_status status =
        normcore_activation_forward_f32(nullptr, NORMCORE_ACTIVATION_RELU, 0.0, 1, 3, x, 3, y, 3);
    return status == NORMCORE_OK && y[0] == 1.0f && y[1] == 0.0f && y[2] == 3.0f ? 0 : 1;
}
