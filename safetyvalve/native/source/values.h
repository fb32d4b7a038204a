/* What the kernels that compute in fp32 share. Arrays hold bf16, as uint16_t, or float; what takes a `bf16` is inlined
   with a constant there, so that each has one body and its loops no branches. */
#ifndef SAFETYVALVE_VALUES_H
#define SAFETYVALVE_VALUES_H

#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* `statement` for either type, with the constant BF16 in it. */
#define BY_TYPE(statement)      \
    do {                        \
        if (bf16) {             \
            enum { BF16 = 1 };  \
            statement;          \
        } else {                \
            enum { BF16 = 0 };  \
            statement;          \
        }                       \
    } while (0)

INLINE uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

INLINE float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE uint16_t narrow(float value)
{
    uint32_t bits = bits_of(value);
    uint32_t rounded = bits + 0x7fff + (bits >> 16 & 1);
    return (uint16_t)((value != value ? bits | 0x400000 : rounded) >> 16); /* a NaN might carry over into a number */
}

INLINE float load(const void *array, int64_t at, int bf16)
{
    return bf16 ? float_of((uint32_t)((const uint16_t *)array)[at] << 16) : ((const float *)array)[at];
}

INLINE void store(void *array, int64_t at, float value, int bf16)
{
    if (bf16)
        ((uint16_t *)array)[at] = narrow(value);
    else
        ((float *)array)[at] = value;
}

/* Address of an element. */
INLINE void *from(const void *array, int64_t at, int bf16)
{
    return (char *)array + at * (bf16 ? 2 : 4);
}

/* exp(x) for x <= 0, with a relative error below 2e-7; 0 where that is no longer a normal number. */
INLINE float exponential(float x)
{
    const float shift = 0x1.8p23f; /* a sum with it is a whole number, which its lowest bits hold */
    float shifted = x * 0x1.715476p0f + shift;
    float power = shifted - shift;
    /* ln 2 in two parts, of which the first times any power here is exact */
    float rest = (x - power * 0x1.62ep-1f) - power * 0x1.0bfbe8p-15f;
    /* minimax in relative error, for |rest| <= ln(2) / 2 */
    float series = 0.00836885069f + rest * 0.00138143206f;
    series = 0.0416684002f + rest * series;
    series = 0.166665196f + rest * series;
    series = 0.49999994f + rest * series;
    series = 1 + rest * series;
    series = 1 + rest * series;
    float result = series * float_of((bits_of(shifted) << 23) + 0x3f800000);
    return x < -87 ? 0 : result;
}

#endif
