/* Small fp32 products in the vectors that the processor has.

   A product's left operand is read value by value, its right one WIDE columns at a time, and the sums of ROWS x WIDE
   stay in registers. */
#ifndef SAFETYVALVE_LANES_H
#define SAFETYVALVE_LANES_H

#include "values.h"

#if defined(__AVX512F__)
enum { LANES = 16, ROWS = 12 };
#else
enum { LANES = 8, ROWS = 6 }; /* of AVX2; for another processor the compiler makes several instructions of one */
#endif

enum { WIDE = 2 * LANES };

typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* `count` of `most` rows of an array as [row][width], times a factor; the rest are zeros. */
INLINE void rows_of(const void *array, int64_t stride, int64_t count, int64_t most, int64_t width, float factor,
                    float *to, int bf16)
{
    for (int64_t row = 0; row < count; row++)
        for (int64_t i = 0; i < width; i++)
            to[row * width + i] = load(array, row * stride + i, bf16) * factor;
    memset(to + count * width, 0, sizeof(float) * (size_t)((most - count) * width));
}

/* `rows` of an array [row][width] as panels [width / WIDE][`length`][WIDE], from row `first` of each panel. */
INLINE void panels(const void *array, int64_t stride, int64_t rows, int64_t width, int64_t length, int64_t first,
                   float factor, float *to, int bf16)
{
    for (int64_t panel = 0; panel < width / WIDE; panel++)
        for (int64_t row = 0; row < rows; row++)
            for (int64_t i = 0; i < WIDE; i++)
                to[(panel * length + first + row) * WIDE + i] =
                    load(array, row * stride + panel * WIDE + i, bf16) * factor;
}

/* ROWS x WIDE of left @ right, or with `more` added to what is there. Values are at left[i * row + k * inner] and
   right[k * next + j]. */
INLINE void block(const float *left, int64_t row, int64_t inner, const float *right, int64_t next, int64_t depth,
                  float *out, int64_t stride, int more)
{
    lanes sum[ROWS][2];
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++)
        sum[i][0] = sum[i][1] = (lanes){0};
    for (int64_t k = 0; k < depth; k++, left += inner, right += next) {
        const lanes first = *(const lanes *)right, second = *(const lanes *)(right + LANES);
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; i++) {
            sum[i][0] += left[i * row] * first;
            sum[i][1] += left[i * row] * second;
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++)
        for (int half = 0; half < 2; half++) {
            lanes *place = (lanes *)(out + i * stride + half * LANES);
            if (more)
                sum[i][half] += *place;
            *place = sum[i][half];
        }
}

#endif
