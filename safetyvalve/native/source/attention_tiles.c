/* Attention of a packed row of prefix trees, forward and backward, in bf16 on AMX.

   Everything is computed on blocks of 32 queries and 32 keys: two tiles each way. Scores stand as [key, query]. Then
   keys and values are read where they lie, maxima and sums over keys need no shuffles, and weights are, rounded, what
   the products that sum over queries read; of two keys' rows interleaved, what those that sum over keys read. */

#include <stdint.h>

enum {
    BLOCK = 32,
    SQUARE = BLOCK * BLOCK,
    MAX_WIDTH = 128,
    /* Query blocks, and their squares of weights, that a thread keeps until it adds them to the gradients of keys and
       values. In fewer additions more sums are added at once; but all that shall stay in its L2 cache. */
    KEPT_BLOCKS = 8,
    KEPT_SQUARES = 128,
    /* Of a block of queries, next to one for each block of keys. */
    FIXED_COST = 3,
};

typedef struct {
    int64_t token, column, count; /* first in the row, first of the bias, how many */
} KeyBlock;

typedef struct {
    int64_t start, queries, query_blocks, keys, key_blocks;
    const uint16_t *bias;
    KeyBlock *block;
    uint32_t *seen;  /* [query block, key block, key]: a bit for each query */
    uint8_t *active; /* [query block, key block]: whether any bit is set */
    int64_t *cost;   /* [query block] */
} Tile;

typedef struct {
    const uint16_t *qkv, *bias, *out_read, *grad_out; /* grad_out is NULL in the forward pass */
    uint16_t *out, *grad_qkv;
    const float *lse_read;
    float *lse, scaling;
    int64_t tokens, stride, heads, key_heads, group, width, n_tiles, threads, most_key_blocks;
    Tile *tiles;
    int64_t tail_start, scratch_bytes;
    uint16_t *tail;    /* last rows and zeros: blocks at the end read as many */
    float *sums;       /* [thread + key head, token, keys' and values' gradients] */
    uint8_t *has_sums; /* [thread, key head] */
    uintptr_t scratch;
} Row;

typedef struct {
    uint16_t *query_turned, *above_turned; /* one block, widths in pairs */
    uint16_t *query_paired, *above_paired; /* [query block], tokens in pairs */
    uint16_t *weights, *slopes;            /* [query block, key block, key, query] */
    uint16_t *mixed;                       /* [key block], keys in pairs */
    uint16_t *keys_turned;                 /* [key block, width, key]; values in the forward pass */
    float *scores, *products, *wide;
} Scratch;

#if defined(__AMX_BF16__) && defined(__AVX512BF16__)

#include <math.h>
#include <omp.h>
#include <stdlib.h>

#include "tiles.h"

static const float LOG2_E = 1.44269504f, LOG_2 = 0.693147181f;

/* Tiles 0 to 3 are a square of sums; 4 and 5 its rows' factors, 6 and 7 its columns'. */

static inline void square_zero(void)
{
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

static inline void square_load(const float *from, int64_t stride)
{
    IN_MEMORY();
    _tile_loadd(0, from, stride * 4);
    _tile_loadd(1, from + 16, stride * 4);
    _tile_loadd(2, from + 16 * stride, stride * 4);
    _tile_loadd(3, from + 16 * stride + 16, stride * 4);
}

static inline void square_store(float *to, int64_t stride)
{
    _tile_stored(0, to, stride * 4);
    _tile_stored(1, to + 16, stride * 4);
    _tile_stored(2, to + 16 * stride, stride * 4);
    _tile_stored(3, to + 16 * stride + 16, stride * 4);
}

static inline void square_add(const uint16_t *rows, int64_t stride, const uint16_t *columns)
{
    IN_MEMORY();
    _tile_loadd(6, columns, 64);
    _tile_loadd(4, rows, stride * 2);
    _tile_loadd(7, columns + SQUARE / 2, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(5, rows + 16 * stride, stride * 2);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
}

static inline __m512i rounded(__m512 first, __m512 second)
{
    return (__m512i)_mm512_cvtne2ps_pbh(second, first);
}

static inline __m512 widened(const uint16_t *from)
{
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

/* Two to the power x where seen, and else 0. */
static inline __m512 power(__mmask16 seen, __m512 x)
{
    const __m512 part = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    __m512 y = _mm512_set1_ps(0.00187757668f);
    y = _mm512_fmadd_ps(y, part, _mm512_set1_ps(0.00898934009f));
    y = _mm512_fmadd_ps(y, part, _mm512_set1_ps(0.0558263181f));
    y = _mm512_fmadd_ps(y, part, _mm512_set1_ps(0.240153617f));
    y = _mm512_fmadd_ps(y, part, _mm512_set1_ps(0.693153073f));
    y = _mm512_fmadd_ps(y, part, _mm512_set1_ps(0.999999925f));
    return _mm512_maskz_scalef_ps(seen, y, x);
}

static inline __m512 logarithm(__m512 x)
{
    const __m512 one = _mm512_set1_ps(1), m = _mm512_getmant_ps(x, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_src);
    const __m512 exponent = _mm512_getexp_ps(_mm512_div_ps(x, m));
    const __m512 r = _mm512_div_ps(_mm512_sub_ps(m, one), _mm512_add_ps(m, one)), square = _mm512_mul_ps(r, r);
    __m512 y = _mm512_set1_ps(2.0f / 9);
    for (int odd = 7; odd > 0; odd -= 2)
        y = _mm512_fmadd_ps(y, square, _mm512_set1_ps(2.0f / odd));
    return _mm512_fmadd_ps(y, r, _mm512_mul_ps(exponent, _mm512_set1_ps(LOG_2)));
}

/* Factors of columns that stand for tokens: the product sums over widths. */
static void turn(const uint16_t *rows, int64_t stride, int64_t count, int64_t width, uint16_t *turned)
{
    __m512i r[16];
    for (int64_t w = 0; w < width; w += BLOCK)
        for (int half = 0; half < 2; half++) {
            for (int i = 0; i < 16; i++) {
                const int64_t row = half * 16 + i;
                r[i] = row < count ? _mm512_loadu_si512(rows + row * stride + w) : _mm512_setzero_si512();
            }
            transpose(r);
            for (int i = 0; i < 16; i++)
                _mm512_storeu_si512(turned + w * BLOCK + half * SQUARE / 2 + i * 32, r[i]);
        }
}

/* Factors of columns that stand for widths: the product sums over tokens. */
static void pair(const uint16_t *rows, int64_t stride, int64_t count, int64_t width, uint16_t *paired)
{
    for (int64_t w = 0; w < width; w += 16)
        for (int i = 0; i < BLOCK; i += 2) {
            const __mmask16 even = i < count ? 0xffff : 0, odd = i + 1 < count ? 0xffff : 0;
            const __m256i first = _mm256_maskz_loadu_epi16(even, rows + i * stride + w);
            const __m256i second = _mm256_maskz_loadu_epi16(odd, rows + (i + 1) * stride + w);
            const __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32(second), 16);
            _mm512_storeu_si512(paired + w * BLOCK + i * 16, _mm512_or_si512(_mm512_cvtepu16_epi32(first), high));
        }
}

/* Interleave the rounded rows of two keys. Columns come in the order that unpacking gives; put_turned undoes it. */
static inline void mix(uint16_t *mixed, int key, __m512i first, __m512i second)
{
    _mm512_storeu_si512(mixed + key * 16, _mm512_unpacklo_epi16(first, second));
    _mm512_storeu_si512(mixed + SQUARE / 2 + key * 16, _mm512_unpackhi_epi16(first, second));
}

/* Sum over the active keys of what turn_keys and mix made of them, each query's times its factor. */
static void put_turned(const Row *row, const Tile *tile, int64_t block, const Scratch *s, const float factor[BLOCK],
                       uint16_t *out, int64_t stride)
{
    const int64_t count = tile->queries - block * BLOCK;
    __m512i r[2][16];
    for (int64_t w = 0; w < row->width; w += BLOCK) {
        square_zero();
        for (int64_t k = 0; k < tile->key_blocks; k++)
            if (tile->active[block * tile->key_blocks + k])
                square_add(s->keys_turned + (k * row->width + w) * BLOCK, BLOCK, s->mixed + k * SQUARE);
        square_store(s->wide, BLOCK);
        for (int side = 0; side < 2; side++) {
            for (int half = 0; half < 2; half++) {
                for (int i = 0; i < 16; i++)
                    r[half][i] = _mm512_loadu_si512(s->wide + (half * 16 + i) * BLOCK + side * 16);
                transpose(r[half]);
            }
            for (int i = 0; i < 16; i++) {
                const int query = i / 4 * 8 + i % 4 + side * 4;
                if (query >= count)
                    continue;
                const __m512 times = _mm512_set1_ps(factor[query]);
                const __m512 first = _mm512_mul_ps(_mm512_castsi512_ps(r[0][i]), times);
                const __m512 second = _mm512_mul_ps(_mm512_castsi512_ps(r[1][i]), times);
                _mm512_storeu_si512(out + query * stride + w, rounded(first, second));
            }
        }
    }
}

/* A row from which a whole block can be read. */
static inline const uint16_t *key_rows(const Row *row, int64_t token)
{
    return token + BLOCK <= row->tokens ? row->qkv + token * row->stride
                                        : row->tail + (token - row->tail_start) * row->stride;
}

/* The keys of a tile, or from another column its values, turned: the sums over keys read them so. */
static void turn_keys(const Row *row, const Tile *tile, int64_t column, uint16_t *turned)
{
    __m512i even[16], odd[16];
    for (int64_t k = 0; k < tile->key_blocks; k++)
        for (int64_t w = 0; w < row->width; w += BLOCK, turned += SQUARE) {
            const uint16_t *rows = key_rows(row, tile->block[k].token) + column + w;
            for (int i = 0; i < 16; i++, rows += 2 * row->stride) {
                even[i] = _mm512_loadu_si512(rows);
                odd[i] = _mm512_loadu_si512(rows + row->stride);
            }
            transpose(even);
            transpose(odd);
            for (int i = 0; i < 16; i++) {
                const __mmask32 second = 0xaaaaaaaa; /* halves of lanes that hold the odd tokens' values */
                const __m512i low = _mm512_mask_blend_epi16(second, even[i], _mm512_slli_epi32(odd[i], 16));
                const __m512i high = _mm512_mask_blend_epi16(second, _mm512_srli_epi32(even[i], 16), odd[i]);
                _mm512_storeu_si512(turned + 2 * i * BLOCK, low);
                _mm512_storeu_si512(turned + (2 * i + 1) * BLOCK, high);
            }
        }
}

/* [key, query] products of a block of keys or values, at the given column, with what turn made of queries. */
static inline void products(const Row *row, int64_t token, int64_t column, const uint16_t *turned, float *out)
{
    const uint16_t *rows = key_rows(row, token) + column;
    square_zero();
    for (int64_t w = 0; w < row->width; w += BLOCK)
        square_add(rows + w, row->stride, turned + w * BLOCK);
    square_store(out, BLOCK);
}

static void forward_block(const Row *row, const Tile *tile, int64_t head, int64_t block, const Scratch *s)
{
    const int64_t start = tile->start + block * BLOCK, count = tile->queries - block * BLOCK, width = row->width;
    const int64_t key_head = head / row->group, key_column = (row->heads + key_head) * width;
    const uint8_t *active = tile->active + block * tile->key_blocks;
    const uint32_t *seen = tile->seen + block * tile->key_blocks * BLOCK;
    const __m512 scaling = _mm512_set1_ps(row->scaling * LOG2_E);
    __m512 top[2], other[2], sum[2];
    float factor[BLOCK], logs[BLOCK];
    turn(row->qkv + start * row->stride + head * width, row->stride, count, width, s->query_turned);
    top[0] = top[1] = other[0] = other[1] = _mm512_set1_ps(-INFINITY);
    for (int64_t k = 0; k < tile->key_blocks; k++) {
        if (!active[k])
            continue;
        float *scores = s->scores + k * SQUARE;
        products(row, tile->block[k].token, key_column, s->query_turned, scores);
        for (int i = 0; i < BLOCK; i += 2) /* two chains of maxima, which wait for each other */
            for (int side = 0; side < 2; side++) {
                const __mmask16 mask = (__mmask16)(seen[k * BLOCK + i] >> 16 * side);
                const __mmask16 next = (__mmask16)(seen[k * BLOCK + i + 1] >> 16 * side);
                const float *score = scores + i * BLOCK + side * 16;
                top[side] = _mm512_mask_max_ps(top[side], mask, top[side], _mm512_loadu_ps(score));
                other[side] = _mm512_mask_max_ps(other[side], next, other[side], _mm512_loadu_ps(score + BLOCK));
            }
    }
    for (int side = 0; side < 2; side++) {
        top[side] = _mm512_mul_ps(_mm512_max_ps(top[side], other[side]), scaling);
        sum[side] = _mm512_setzero_ps();
    }
    for (int64_t k = 0; k < tile->key_blocks; k++) {
        if (!active[k])
            continue;
        for (int i = 0; i < BLOCK; i += 2) {
            __m512 weight[2][2];
            for (int odd = 0; odd < 2; odd++)
                for (int side = 0; side < 2; side++) {
                    const __m512 score = _mm512_loadu_ps(s->scores + k * SQUARE + (i + odd) * BLOCK + side * 16);
                    const __mmask16 mask = (__mmask16)(seen[k * BLOCK + i + odd] >> 16 * side);
                    weight[odd][side] = power(mask, _mm512_fmsub_ps(score, scaling, top[side]));
                }
            for (int side = 0; side < 2; side++)
                sum[side] = _mm512_add_ps(sum[side], _mm512_add_ps(weight[0][side], weight[1][side]));
            mix(s->mixed + k * SQUARE, i, rounded(weight[0][0], weight[0][1]), rounded(weight[1][0], weight[1][1]));
        }
    }
    for (int side = 0; side < 2; side++) {
        _mm512_storeu_ps(factor + side * 16, _mm512_div_ps(_mm512_set1_ps(1), sum[side]));
        _mm512_storeu_ps(logs + side * 16, _mm512_fmadd_ps(top[side], _mm512_set1_ps(LOG_2), logarithm(sum[side])));
    }
    if (row->lse)
        memcpy(row->lse + head * row->tokens + start, logs, 4 * (size_t)(count < BLOCK ? count : BLOCK));
    const int64_t out_stride = row->heads * width;
    put_turned(row, tile, block, s, factor, row->out + start * out_stride + head * width, out_stride);
}

/* Queries' gradients of a block; its weights and slopes stay, for those of keys and values. */
static void backward_block(const Row *row, const Tile *tile, int64_t head, int64_t block, int64_t kept,
                           const Scratch *s)
{
    const int64_t start = tile->start + block * BLOCK, count = tile->queries - block * BLOCK, width = row->width;
    const int64_t key_head = head / row->group, key_column = (row->heads + key_head) * width;
    const int64_t out_stride = row->heads * width, at = start * out_stride + head * width;
    const uint16_t *query = row->qkv + start * row->stride + head * width;
    const __m512 scaling = _mm512_set1_ps(row->scaling * LOG2_E);
    float factor[BLOCK], log_sums[BLOCK] = {0}, along[BLOCK] = {0};
    turn(query, row->stride, count, width, s->query_turned);
    pair(query, row->stride, count, width, s->query_paired + kept * width * BLOCK);
    turn(row->grad_out + at, out_stride, count, width, s->above_turned);
    pair(row->grad_out + at, out_stride, count, width, s->above_paired + kept * width * BLOCK);
    for (int i = 0; i < BLOCK; i++) {
        factor[i] = row->scaling;
        if (i >= count)
            continue;
        __m512 sum = _mm512_setzero_ps();
        for (int64_t w = at + i * out_stride; w < at + i * out_stride + width; w += 16)
            sum = _mm512_fmadd_ps(widened(row->grad_out + w), widened(row->out_read + w), sum);
        along[i] = _mm512_reduce_add_ps(sum);
        log_sums[i] = row->lse_read[head * row->tokens + start + i] * LOG2_E;
    }
    for (int64_t k = 0; k < tile->key_blocks; k++) {
        const int64_t pair_of_blocks = block * tile->key_blocks + k;
        if (!tile->active[pair_of_blocks])
            continue;
        const uint32_t *seen = tile->seen + pair_of_blocks * BLOCK;
        uint16_t *weights = s->weights + (kept * tile->key_blocks + k) * SQUARE;
        uint16_t *slopes = s->slopes + (kept * tile->key_blocks + k) * SQUARE;
        products(row, tile->block[k].token, key_column, s->query_turned, s->scores);
        products(row, tile->block[k].token, key_column + row->key_heads * width, s->above_turned, s->products);
        for (int i = 0; i < BLOCK; i += 2) {
            __m512i slope_pair[2];
            for (int odd = 0; odd < 2; odd++) {
                __m512 weight[2], slope[2];
                for (int side = 0; side < 2; side++) {
                    const int place = (i + odd) * BLOCK + side * 16;
                    const __mmask16 mask = (__mmask16)(seen[i + odd] >> 16 * side);
                    const __m512 log_sum = _mm512_loadu_ps(log_sums + side * 16);
                    const __m512 score = _mm512_loadu_ps(s->scores + place);
                    weight[side] = power(mask, _mm512_fmsub_ps(score, scaling, log_sum));
                    const __m512 product = _mm512_loadu_ps(s->products + place);
                    const __m512 apart = _mm512_sub_ps(product, _mm512_loadu_ps(along + side * 16));
                    slope[side] = _mm512_maskz_mul_ps(mask, weight[side], apart);
                }
                _mm512_storeu_si512(weights + (i + odd) * BLOCK, rounded(weight[0], weight[1]));
                slope_pair[odd] = rounded(slope[0], slope[1]);
                _mm512_storeu_si512(slopes + (i + odd) * BLOCK, slope_pair[odd]);
            }
            mix(s->mixed + k * SQUARE, i, slope_pair[0], slope_pair[1]);
        }
    }
    put_turned(row, tile, block, s, factor, row->grad_qkv + start * row->stride + head * width, row->stride);
}

/* Add what a number of query blocks contribute to the gradients of keys and values. */
static void add_sums(const Row *row, const Tile *tile, int64_t block, int64_t blocks, const Scratch *s, float *sums)
{
    const int64_t width = row->width;
    for (int64_t k = 0; k < tile->key_blocks; k++) {
        const uint8_t *active = tile->active + block * tile->key_blocks + k;
        int any = 0;
        for (int64_t b = 0; b < blocks; b++)
            any |= active[b * tile->key_blocks];
        for (int64_t w = 0; any && w < 2 * width; w += BLOCK) {
            const uint16_t *rows = w < width ? s->slopes : s->weights;
            const uint16_t *columns = w < width ? s->query_paired + w * BLOCK : s->above_paired + (w - width) * BLOCK;
            float *place = sums + tile->block[k].token * 2 * width + w;
            square_load(place, 2 * width);
            for (int64_t b = 0; b < blocks; b++)
                if (active[b * tile->key_blocks])
                    square_add(rows + (b * tile->key_blocks + k) * SQUARE, BLOCK, columns + b * width * BLOCK);
            square_store(place, 2 * width);
        }
    }
}

/* Keys' and values' gradients of a token: the threads' sums, in their order. */
static void put_sums(const Row *row, int64_t token)
{
    const int64_t width = row->width, sums_size = (row->tokens + BLOCK) * 2 * width;
    for (int64_t key_head = 0; key_head < row->key_heads; key_head++)
        for (int64_t w = 0; w < 2 * width; w += BLOCK) {
            __m512 first = _mm512_setzero_ps(), second = first;
            for (int64_t t = 0; t < row->threads; t++)
                if (row->has_sums[t * row->key_heads + key_head]) {
                    const float *sums = row->sums + (t + key_head) * sums_size + token * 2 * width + w;
                    first = _mm512_add_ps(first, _mm512_loadu_ps(sums));
                    second = _mm512_add_ps(second, _mm512_loadu_ps(sums + 16));
                }
            const int of_keys = w < width;
            const __m512 times = _mm512_set1_ps(of_keys ? row->scaling : 1);
            const int64_t part = row->heads + key_head + (of_keys ? 0 : row->key_heads);
            const int64_t column = part * width + (of_keys ? w : w - width);
            _mm512_storeu_si512(row->grad_qkv + token * row->stride + column,
                                rounded(_mm512_mul_ps(first, times), _mm512_mul_ps(second, times)));
        }
}

/* Which queries see which keys, as bits, for a block of queries. */
static void read_bias(const Tile *tile, int64_t block)
{
    tile->cost[block] = FIXED_COST;
    for (int64_t k = 0; k < tile->key_blocks; k++) {
        const KeyBlock *keys = tile->block + k;
        const __mmask32 inside = keys->count < BLOCK ? (1u << keys->count) - 1 : ~0u;
        uint32_t bits[BLOCK] = {0}, any = 0;
        for (int64_t i = 0; i < BLOCK && block * BLOCK + i < tile->queries; i++) {
            const uint16_t *bias = tile->bias + (block * BLOCK + i) * tile->keys + keys->column;
            const __m512i values = _mm512_maskz_loadu_epi16(inside, bias);
            bits[i] = _mm512_mask_cmpneq_epi16_mask(inside, values, _mm512_set1_epi16((short)0xff80));
            any |= bits[i];
        }
        const __m512i low = _mm512_loadu_si512(bits), high = _mm512_loadu_si512(bits + 16);
        for (int i = 0; i < BLOCK; i++) {
            const __m512i bit = _mm512_set1_epi32((int)(1u << i));
            tile->seen[(block * tile->key_blocks + k) * BLOCK + i] =
                (uint32_t)_mm512_test_epi32_mask(high, bit) << 16 | _mm512_test_epi32_mask(low, bit);
        }
        tile->active[block * tile->key_blocks + k] = any != 0;
        tile->cost[block] += any != 0;
    }
}

/* This thread's part of the work: consecutive ones of the query blocks of all heads and tiles, by key head, so that few
   threads add to the same sums. */
static void work(const Row *row, int64_t thread, const Scratch *s)
{
    const int64_t width = row->width, sums_size = (row->tokens + BLOCK) * 2 * width;
    int64_t total = 0, done = 0;
    int turned = 0;
    for (const Tile *tile = row->tiles; tile < row->tiles + row->n_tiles; tile++)
        for (int64_t b = 0; b < tile->query_blocks; b++)
            total += tile->cost[b] * row->heads;
    for (int64_t step = 0; step < row->heads * row->n_tiles; step++) {
        const int64_t key_head = step / (row->group * row->n_tiles), head = key_head * row->group + step % row->group;
        const Tile *tile = row->tiles + step / row->group % row->n_tiles;
        const int64_t fitting = KEPT_SQUARES / tile->key_blocks, most = fitting < KEPT_BLOCKS ? fitting : KEPT_BLOCKS;
        const int64_t column = (row->heads + key_head + (row->grad_out ? 0 : row->key_heads)) * width;
        int64_t kept = 0;
        turned &= step % row->group != 0;
        for (int64_t b = 0; b < tile->query_blocks; b++) {
            const int mine = (2 * done + tile->cost[b]) * row->threads / (2 * total) == thread;
            done += tile->cost[b];
            if (mine && !turned)
                turn_keys(row, tile, column, s->keys_turned);
            turned |= mine;
            if (mine && !row->grad_out)
                forward_block(row, tile, head, b, s);
            if (mine && row->grad_out)
                backward_block(row, tile, head, b, kept++, s);
            if (kept && (!mine || kept >= most || b + 1 == tile->query_blocks)) {
                float *sums = row->sums + (thread + key_head) * sums_size;
                if (!row->has_sums[thread * row->key_heads + key_head])
                    memset(sums, 0, 4 * (size_t)sums_size);
                row->has_sums[thread * row->key_heads + key_head] = 1;
                add_sums(row, tile, b + mine - kept, kept, s, sums);
                kept = 0;
            }
        }
    }
}

/* Memory is laid out twice: from address 0 to learn how much it takes, and then where it is. */
static void *take(uintptr_t *at, int64_t bytes)
{
    void *here = (void *)*at;
    *at += ((uintptr_t)bytes + 63) / 64 * 64;
    return here;
}

static Scratch lay_out_scratch(const Row *row, uintptr_t *at)
{
    const int64_t keys = row->most_key_blocks, kept = keys > KEPT_SQUARES ? keys : KEPT_SQUARES;
    const int64_t vectors = BLOCK * row->width * sizeof(uint16_t), square = SQUARE * sizeof(uint16_t);
    const int64_t backward = row->grad_out != NULL;
    return (Scratch){
        .query_turned = take(at, vectors),
        .above_turned = take(at, vectors * backward),
        .query_paired = take(at, vectors * KEPT_BLOCKS * backward),
        .above_paired = take(at, vectors * KEPT_BLOCKS * backward),
        .weights = take(at, square * kept * backward),
        .slopes = take(at, square * kept * backward),
        .mixed = take(at, square * keys),
        .keys_turned = take(at, vectors * keys),
        .scores = take(at, 2 * square * (backward ? 1 : keys)),
        .products = take(at, 2 * square * backward),
        .wide = take(at, 2 * square),
    };
}

static void lay_out(Row *row, uintptr_t *at, const int64_t *tiles, const int64_t *ranges)
{
    const int places = *at != 0;
    row->tiles = take(at, row->n_tiles * (int64_t)sizeof(Tile));
    for (int64_t i = 0; i < row->n_tiles; i++) {
        const int64_t *numbers = tiles + 5 * i, *range = ranges + 2 * numbers[2], *end = range + 2 * numbers[3];
        Tile tile = {.start = numbers[0], .queries = numbers[1] - numbers[0]};
        tile.query_blocks = (tile.queries + BLOCK - 1) / BLOCK;
        for (const int64_t *r = range; r < end; r += 2)
            tile.key_blocks += (r[1] - r[0] + BLOCK - 1) / BLOCK;
        tile.block = take(at, tile.key_blocks * (int64_t)sizeof(KeyBlock));
        tile.seen = take(at, tile.query_blocks * tile.key_blocks * BLOCK * (int64_t)sizeof(uint32_t));
        tile.active = take(at, tile.query_blocks * tile.key_blocks);
        tile.cost = take(at, tile.query_blocks * (int64_t)sizeof(int64_t));
        row->most_key_blocks = tile.key_blocks > row->most_key_blocks ? tile.key_blocks : row->most_key_blocks;
        KeyBlock *block = tile.block;
        for (const int64_t *r = range; places && r < end; r += 2)
            for (int64_t token = r[0]; token < r[1]; token += BLOCK) {
                const int64_t left = r[1] - token, count = left < BLOCK ? left : BLOCK;
                *block++ = (KeyBlock){token, tile.keys, count};
                tile.keys += count;
            }
        tile.bias = row->bias + numbers[4];
        if (places)
            row->tiles[i] = tile;
    }
    const int64_t two = sizeof(uint16_t), sums = (row->tokens + BLOCK) * 2 * row->width * (int64_t)sizeof(float);
    row->tail = take(at, 2 * BLOCK * row->stride * two);
    row->has_sums = take(at, row->threads * row->key_heads);
    row->sums = take(at, row->grad_out ? (row->threads + row->key_heads) * sums : 0);
    row->scratch = (uintptr_t)take(at, 0);
    uintptr_t end = row->scratch;
    lay_out_scratch(row, &end);
    row->scratch_bytes = (int64_t)(end - row->scratch);
    *at += (uintptr_t)(row->scratch_bytes * row->threads);
}

static void prepare_tail(const Row *row)
{
    const int64_t first = row->heads * row->width, size = 2 * row->key_heads * row->width;
    for (int64_t i = 0; i < 2 * BLOCK; i++) {
        const int64_t token = row->tail_start + i;
        if (token < row->tokens)
            memcpy(row->tail + i * row->stride + first, row->qkv + token * row->stride + first, 2 * (size_t)size);
        else
            memset(row->tail + i * row->stride + first, 0, 2 * (size_t)size);
    }
}

static int attend(Row *row, const int64_t *tiles, const int64_t *ranges)
{
    if (row->width < BLOCK || row->width > MAX_WIDTH || row->width % BLOCK || row->key_heads < 1 ||
        row->heads % row->key_heads || !(row->scaling > 0) || !tiles_allowed())
        return -1;
    row->group = row->heads / row->key_heads;
    row->threads = row->threads < 1 ? 1 : row->threads;
    row->tail_start = row->tokens > BLOCK ? row->tokens - BLOCK : 0;
    uintptr_t bytes = 0;
    lay_out(row, &bytes, tiles, ranges);
    char *memory = aligned_alloc(64, bytes);
    if (!memory)
        return -1;
    uintptr_t at = (uintptr_t)memory;
    lay_out(row, &at, tiles, ranges);
    memset(row->has_sums, 0, (size_t)(row->threads * row->key_heads));
    prepare_tail(row);
#pragma omp parallel num_threads((int)row->threads)
    {
        const int64_t thread = omp_get_thread_num();
        uintptr_t own = row->scratch + (uintptr_t)(thread * row->scratch_bytes);
        const Scratch scratch = lay_out_scratch(row, &own);
        for (int64_t i = 0; i < row->n_tiles; i++)
#pragma omp for schedule(static) nowait
            for (int64_t b = 0; b < row->tiles[i].query_blocks; b++)
                read_bias(row->tiles + i, b);
#pragma omp single
        row->threads = omp_get_num_threads(); /* may be fewer than asked for */
        tile_setting before;
        tiles_begin(&before);
        work(row, thread, &scratch);
        tiles_end(&before);
        if (row->grad_out) {
#pragma omp barrier
#pragma omp for schedule(static) nowait
            for (int64_t token = 0; token < row->tokens; token++)
                put_sums(row, token);
        }
    }
    free(memory);
    return 0;
}

#else

static int attend(Row *row, const int64_t *tiles, const int64_t *ranges)
{
    (void)row, (void)tiles, (void)ranges;
    return -1;
}

#endif

/* Both return 0, or -1 where the width of a head, the processor or the memory is not enough. */

int sv_attend_tiles_forward(const uint16_t *qkv, int64_t tokens, int64_t stride, int64_t heads, int64_t key_heads,
                      int64_t width, float scaling, int64_t n_tiles, const int64_t *tiles, const int64_t *ranges,
                      const uint16_t *bias, uint16_t *out, float *lse, int64_t threads)
{
    Row row = {.qkv = qkv, .tokens = tokens, .stride = stride, .heads = heads, .key_heads = key_heads, .width = width,
               .scaling = scaling, .n_tiles = n_tiles, .bias = bias, .out = out, .lse = lse, .threads = threads};
    return attend(&row, tiles, ranges);
}

int sv_attend_tiles_backward(const uint16_t *qkv, int64_t tokens, int64_t stride, int64_t heads, int64_t key_heads,
                       int64_t width, float scaling, int64_t n_tiles, const int64_t *tiles, const int64_t *ranges,
                       const uint16_t *bias, const uint16_t *out, const float *lse, const uint16_t *grad_out,
                       uint16_t *grad_qkv, int64_t threads)
{
    Row row = {.qkv = qkv, .tokens = tokens, .stride = stride, .heads = heads, .key_heads = key_heads, .width = width,
               .scaling = scaling, .n_tiles = n_tiles, .bias = bias, .out_read = out, .lse_read = lse,
               .grad_out = grad_out, .grad_qkv = grad_qkv, .threads = threads};
    return attend(&row, tiles, ranges);
}
