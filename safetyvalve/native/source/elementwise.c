/* The passes of a decoder layer and of the output embedding that work on one element or one row at a time.

   Each reads and writes its arrays once: what bounds them is memory. The arrays that are computed in hold bf16, as
   uint16_t, or float; all arithmetic is in fp32, and what is stored is rounded once, to nearest even. No result depends
   on the number of threads.

   The loops are plain C for the compiler to vectorise, which takes -fno-math-errno and -fno-trapping-math. */

#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "values.h"

enum {
    SUMMED = 16,    /* rows that are summed by one thread on their own */
    COLUMNS = 64,   /* of those sums, added up by one thread at a time */
    LANES = 128,     /* maxima that are taken side by side */
    CHUNK = 1024,   /* exponentials that are summed in fp32 */
    PIECE = 4096,   /* squares that are summed in fp32 */
};

static void *allocate(int64_t floats)
{
    void *memory = malloc((size_t)floats * sizeof(float) + 1);
    if (!memory) {
        fputs("safetyvalve: out of memory\n", stderr);
        abort();
    }
    return memory;
}

/* silu(x); in `open` sigmoid(x), and in `closed` 1 - sigmoid(x) without cancellation. */
INLINE float silu(float x, float *open, float *closed)
{
    float power = exponential(-fabsf(x)), large = 1 / (1 + power), small = power * large;
    *open = x < 0 ? small : large;
    *closed = x < 0 ? large : small;
    return (x < 0 ? x * power : x) / (1 + power); /* a division of its own is one rounding less than by `open` */
}

INLINE void norm_row(const float *hidden, const float *weight, float eps, void *out, float *root, int64_t width,
                     int bf16)
{
    /* two sums, so that an addition does not wait for the one before */
    int64_t half = width / 2;
    float square = width % 2 ? hidden[width - 1] * hidden[width - 1] : 0, second = 0;
#pragma omp simd reduction(+ : square, second)
    for (int64_t i = 0; i < half; i++) {
        square += hidden[i] * hidden[i];
        second += hidden[half + i] * hidden[half + i];
    }
    float scale = 1 / sqrtf((square + second) / (float)width + eps);
    *root = scale;
#pragma omp simd
    for (int64_t i = 0; i < width; i++)
        store(out, i, hidden[i] * scale * weight[i], bf16);
}

/* root[row] = 1 / sqrt(mean(hidden^2) + eps), out = hidden * root * weight. */
void sv_norm(const float *hidden, const float *weight, float eps, void *out, float *root, int64_t rows, int64_t width,
             int64_t bf16, int64_t threads)
{
#pragma omp parallel for schedule(static) num_threads((int)threads)
    for (int64_t row = 0; row < rows; row++) {
        const float *states = hidden + row * width;
        BY_TYPE(norm_row(states, weight, eps, from(out, row * width, BF16), root + row, width, BF16));
    }
}

INLINE void norm_backward_row(const void *slope, const float *hidden, float root, const float *weight,
                              const float *beside, float *grad, float *sum, int64_t width, int bf16)
{
    float along = 0; /* how far the slope lies along the input, which the norm takes out */
#pragma omp simd reduction(+ : along)
    for (int64_t i = 0; i < width; i++) {
        float each = load(slope, i, bf16) * (hidden[i] * root);
        along += each * weight[i];
        sum[i] += each;
    }
    along = along / (float)width * root;
#pragma omp simd
    for (int64_t i = 0; i < width; i++)
        grad[i] = beside[i] + (load(slope, i, bf16) * weight[i] - hidden[i] * along) * root;
}

/* Gradients of the norm's input plus `beside`, which may be `grad` itself, and of its weight. */
void sv_norm_backward(const void *slope, const float *hidden, const float *root, const float *weight,
                      const float *beside, float *grad, float *grad_weight, int64_t rows, int64_t width,
                      int64_t bf16, int64_t threads)
{
    int64_t blocks = (rows + SUMMED - 1) / SUMMED;
    float *sums = allocate(blocks * width);
#pragma omp parallel num_threads((int)threads)
    {
#pragma omp for schedule(static)
        for (int64_t block = 0; block < blocks; block++) {
            int64_t end = (block + 1) * SUMMED < rows ? (block + 1) * SUMMED : rows;
            float *sum = sums + block * width;
            memset(sum, 0, (size_t)width * sizeof *sum);
            for (int64_t row = block * SUMMED; row < end; row++) {
                int64_t at = row * width;
                BY_TYPE(norm_backward_row(from(slope, at, BF16), hidden + at, root[row], weight, beside + at, grad + at,
                                          sum, width, BF16));
            }
        }
#pragma omp for schedule(static)
        for (int64_t first = 0; first < width; first += COLUMNS) {
            int64_t count = width - first < COLUMNS ? width - first : COLUMNS;
            double total[COLUMNS] = {0};
            for (int64_t block = 0; block < blocks; block++)
#pragma omp simd
                for (int64_t i = 0; i < count; i++)
                    total[i] += sums[block * width + first + i];
            for (int64_t i = 0; i < count; i++)
                grad_weight[first + i] = (float)total[i];
        }
    }
    free(sums);
}

INLINE void rotate_head(void *head, const float *cos, const float *sin, float sign, int64_t half, int bf16)
{
#pragma omp simd
    for (int64_t i = 0; i < half; i++) {
        float first = load(head, i, bf16), second = load(head, half + i, bf16), signed_sin = sign * sin[i];
        store(head, i, first * cos[i] - second * signed_sin, bf16);
        store(head, half + i, second * cos[i] + first * signed_sin, bf16);
    }
}

/* Turn the first `heads` heads of each row, each of two halves, in place by the row's angles [row, half]; with `back`
   the other way. `stride`: elements from one row to the next. */
void sv_rotate(void *qkv, int64_t stride, const float *cos, const float *sin, int64_t rows, int64_t heads, int64_t half,
               int64_t back, int64_t bf16, int64_t threads)
{
    float sign = back ? -1 : 1;
#pragma omp parallel for schedule(static) num_threads((int)threads)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t head = 0; head < heads; head++) {
            int64_t at = row * stride + head * 2 * half;
            BY_TYPE(rotate_head(from(qkv, at, BF16), cos + row * half, sin + row * half, sign, half, BF16));
        }
}

INLINE void gate_row(const void *gate_up, void *gated, int64_t width, int bf16)
{
#pragma omp simd
    for (int64_t i = 0; i < width; i++) {
        float open, closed;
        store(gated, i, silu(load(gate_up, i, bf16), &open, &closed) * load(gate_up, width + i, bf16), bf16);
    }
}

/* gated [row, width] = silu(gate) * up, of gate_up [row, gate then up]. */
void sv_gate(const void *gate_up, void *gated, int64_t rows, int64_t width, int64_t bf16, int64_t threads)
{
#pragma omp parallel for schedule(static) num_threads((int)threads)
    for (int64_t row = 0; row < rows; row++) {
        int64_t at = row * width;
        BY_TYPE(gate_row(from(gate_up, 2 * at, BF16), from(gated, at, BF16), width, BF16));
    }
}

INLINE void gate_backward_row(const void *grad_gated, const void *gate_up, void *grad_gate_up, void *gated,
                              int64_t width, int bf16)
{
#pragma omp simd
    for (int64_t i = 0; i < width; i++) {
        float up = load(gate_up, width + i, bf16), grad = load(grad_gated, i, bf16);
        float open, closed, turned = silu(load(gate_up, i, bf16), &open, &closed);
        store(grad_gate_up, i, grad * up * (open + turned * closed), bf16);
        store(grad_gate_up, width + i, grad * turned, bf16);
        store(gated, i, turned * up, bf16);
    }
}

/* The gradient of sv_gate's input, which may take the input's place, and its result again. */
void sv_gate_backward(const void *grad_gated, const void *gate_up, void *grad_gate_up, void *gated, int64_t rows,
                      int64_t width, int64_t bf16, int64_t threads)
{
#pragma omp parallel for schedule(static) num_threads((int)threads)
    for (int64_t row = 0; row < rows; row++) {
        int64_t at = row * width;
        BY_TYPE(gate_backward_row(from(grad_gated, at, BF16), from(gate_up, 2 * at, BF16),
                                  from(grad_gate_up, 2 * at, BF16), from(gated, at, BF16), width, BF16));
    }
}

/* `powers` [vocabulary]: room for the exponentials, or `scores` themselves where those are float. */
INLINE float softmax_row(void *scores, float *powers, int64_t target, int64_t vocabulary, int wanted, int bf16)
{
    /* maxima of every LANES-th score: not every compiler vectorises a reduction to one; a NaN is left to the sum */
    float greatest[LANES], best = -INFINITY;
    int64_t whole = vocabulary / LANES * LANES;
    for (int64_t lane = 0; lane < LANES; lane++)
        greatest[lane] = -INFINITY;
    for (int64_t first = 0; first < whole; first += LANES)
#pragma omp simd
        for (int64_t lane = 0; lane < LANES; lane++) {
            float score = load(scores, first + lane, bf16);
            greatest[lane] = score > greatest[lane] ? score : greatest[lane];
        }
    for (int64_t lane = 0; lane < LANES; lane++)
        best = greatest[lane] > best ? greatest[lane] : best;
    for (int64_t i = whole; i < vocabulary; i++)
        best = load(scores, i, bf16) > best ? load(scores, i, bf16) : best;
    float aimed = load(scores, target, bf16) - best;
    double total = 0;
    for (int64_t first = 0; first < vocabulary; first += CHUNK) {
        int64_t end = vocabulary - first < CHUNK ? vocabulary : first + CHUNK;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = first; i < end; i++) {
            float power = exponential(load(scores, i, bf16) - best);
            sum += power;
            if (wanted)
                powers[i] = power;
        }
        total += sum;
    }
    if (wanted) {
        float scale = (float)(1 / total);
#pragma omp simd
        for (int64_t i = 0; i < vocabulary; i++)
            store(scores, i, powers[i] * scale, bf16);
    }
    return (float)(aimed - log(total));
}

/* logps[row] = log softmax(scores[row])[target[row]]; where `wanted`, the scores become probabilities. */
void sv_target_softmax(void *scores, const int64_t *target, float *logps, int64_t rows, int64_t vocabulary,
                       int64_t wanted, int64_t bf16, int64_t threads)
{
    /* a row of exponentials stays in a core's cache, and to read it is faster than to compute it again */
    float *room = bf16 && wanted ? allocate(threads * vocabulary) : NULL;
#pragma omp parallel for schedule(static) num_threads((int)threads)
    for (int64_t row = 0; row < rows; row++) {
        int64_t at = row * vocabulary;
        float *powers = room ? room + omp_get_thread_num() * vocabulary : from(scores, at, 0);
        if (wanted)
            BY_TYPE(logps[row] = softmax_row(from(scores, at, BF16), powers, target[row], vocabulary, 1, BF16));
        else
            BY_TYPE(logps[row] = softmax_row(from(scores, at, BF16), NULL, target[row], vocabulary, 0, BF16));
    }
    free(room);
}

/* Adds the sum of squares to `total`. Pieces are summed in fp32 and added in double precision in their order. */
void sv_square_sum(const float *x, double *total, int64_t n, int64_t threads)
{
    int64_t pieces = (n + PIECE - 1) / PIECE;
    float *sums = allocate(pieces);
#pragma omp parallel for schedule(static) num_threads((int)threads)
    for (int64_t piece = 0; piece < pieces; piece++) {
        const float *values = x + piece * PIECE;
        int64_t count = n - piece * PIECE < PIECE ? n - piece * PIECE : PIECE;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < count; i++)
            sum += values[i] * values[i];
        sums[piece] = sum;
    }
    for (int64_t piece = 0; piece < pieces; piece++)
        *total += sums[piece];
    free(sums);
}
