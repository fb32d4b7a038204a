/* Rows of 16 words of 32 bits: an fp32 value each, or two bf16 values. */
#ifndef SAFETYVALVE_WORDS_H
#define SAFETYVALVE_WORDS_H

#include <immintrin.h>
#include <stdint.h>

/* Two rows of bf16 values (low halves of lanes) as pairs: what a product's right operand wants. */
static inline __m512i paired(__m512i first, __m512i second)
{
    return _mm512_or_si512(first, _mm512_slli_epi32(second, 16));
}

/* Transposes 16 rows of 16 32-bit lanes in place. */
static inline void transpose(__m512i row[16])
{
    __m512i pair[16], quad[16];
    for (int i = 0; i < 16; i += 2) {
        pair[i] = _mm512_unpacklo_epi32(row[i], row[i + 1]);
        pair[i + 1] = _mm512_unpackhi_epi32(row[i], row[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            quad[i + 2 * j] = _mm512_unpacklo_epi64(pair[i + j], pair[i + j + 2]);
            quad[i + 2 * j + 1] = _mm512_unpackhi_epi64(pair[i + j], pair[i + j + 2]);
        }
    for (int j = 0; j < 4; j++) {
        __m512i even_low = _mm512_shuffle_i32x4(quad[j], quad[4 + j], 0x88);
        __m512i odd_low = _mm512_shuffle_i32x4(quad[j], quad[4 + j], 0xdd);
        __m512i even_high = _mm512_shuffle_i32x4(quad[8 + j], quad[12 + j], 0x88);
        __m512i odd_high = _mm512_shuffle_i32x4(quad[8 + j], quad[12 + j], 0xdd);
        row[j] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
        row[4 + j] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
        row[8 + j] = _mm512_shuffle_i32x4(even_low, even_high, 0xdd);
        row[12 + j] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd);
    }
}

#endif
