/*
 * A training loop of your own. Its step is four words: forward, loss, backward, update. Prints the loss every hundred
 * steps; the same numbers on every machine.
 *
 *     cc training_step.c $(normcore-config --cflags --libs) && ./a.out
 */
#include <normcore.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 256, FEATURES = 2, STEPS = 300 };
static float x[ROWS][FEATURES], targets[ROWS], outputs[ROWS];

static void check(normcore_status status) {
    if (status == NORMCORE_OK) return;
    fprintf(stderr, "%s\n", normcore_strerror(status));
    exit(EXIT_FAILURE);
}

static float *zeros(size_t n) {
    float *array = calloc(n, sizeof *array);
    if (array == NULL) check(NORMCORE_ERROR_MEMORY);
    return array;
}

int main(void) {
    check(normcore_random_uniform_f32(NULL, 0, 0, 0, ROWS * FEATURES, -1.0, 1.0, &x[0][0]));
    for (size_t i = 0; i < ROWS; i++) targets[i] = x[i][0] * x[i][1]; /* what the network is to learn */

    const size_t sizes[] = {FEATURES, 32, 1};
    normcore_mlp_options options;
    check(normcore_mlp_defaults(&options, sizeof options));
    options.num_sizes = sizeof sizes / sizeof sizes[0];
    options.sizes = sizes;
    options.norm = NORMCORE_NORM_BATCH;
    options.activation = NORMCORE_ACTIVATION_TANH;
    normcore_mlp *mlp;
    check(normcore_mlp_create(&options, &mlp));
    const size_t count = normcore_mlp_parameter_count(mlp);
    float *params = zeros(count), *grads = zeros(count), *first = zeros(count), *second = zeros(count);
    float *buffers = zeros(normcore_mlp_buffer_count(mlp));
    check(normcore_mlp_initialize_f32(NULL, mlp, 0, 0, -1.0, params, buffers));

    normcore_mlp_pass *pass;
    check(normcore_mlp_pass_create_f32(mlp, ROWS, &pass));
    normcore_optimizer_options adam;
    check(normcore_optimizer_defaults(NORMCORE_ADAM, &adam, sizeof adam));
    adam.learning_rate = 0.01;
    for (adam.step = 1; adam.step <= STEPS; adam.step++) {
        double loss;
        check(normcore_mlp_forward_training_f32(NULL, mlp, ROWS, &x[0][0], FEATURES, params, buffers, 0, 0, pass,
                                                outputs, 1));
        check(normcore_squared_error_f32(NULL, ROWS, 1, outputs, 1, targets, 1, NULL, &loss, outputs, 1, NULL, NULL));
        check(normcore_mlp_backward_f32(NULL, mlp, ROWS, &x[0][0], FEATURES, params, pass, outputs, 1, grads, NULL, 0));
        check(normcore_optimizer_update_f32(NULL, &adam, count, params, grads, first, second));
        if (adam.step % 100 == 0) printf("step %d: loss %.4f\n", (int)adam.step, loss);
    }

    normcore_mlp_pass_destroy(pass);
    normcore_mlp_destroy(mlp);
    free(params), free(grads), free(buffers), free(first), free(second);
    return EXIT_SUCCESS;
}
