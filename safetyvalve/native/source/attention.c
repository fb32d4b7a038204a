/* Attention of a packed row of prefix trees, forward and backward, with fp32 arithmetic in the processor's vectors.

   A piece of work is some queries of one head of a tile with the keys that any of them sees. Keys and values are copied
   to where the products read them in order once for all that a thread computes with them. */

#include <math.h>
#include <omp.h>
#include <stdlib.h>

#include "lanes.h"

enum {
    QUERIES = 36,   /* of a piece; a multiple of ROWS */
    FIXED_COST = 3, /* of a piece, next to one for each panel of keys */
};

typedef struct {
    int64_t start, queries, pieces, keys;
    int64_t length; /* of what holds keys, with room for whole panels and blocks */
    const int64_t *ranges, *ranges_end;
    const void *bias; /* [query, key] */
    int64_t *first, *last; /* [piece]: panels of keys that are seen */
} Tile;

typedef struct {
    const void *qkv, *bias, *out_read, *grad_out; /* grad_out is NULL in the forward pass */
    void *out, *grad_qkv;
    const float *kept_read;
    float *kept, scaling; /* [2, head, token]: greatest score, and the logarithm of the sum of exponentials beside it */
    int64_t tokens, stride, heads, key_heads, group, width, n_tiles, threads, longest;
    Tile *tiles;
    float *sums;       /* [thread + key head, token, keys' and values' gradients] */
    uint8_t *has_sums; /* [thread, key head] */
    uintptr_t scratch;
    int64_t scratch_bytes;
} Row;

typedef struct {
    float *query, *above;               /* [query][width]; query times the scaling */
    float *keys_turned, *values_turned; /* [key / WIDE][width][WIDE] */
    float *key_panels, *value_panels;   /* [width / WIDE][length][WIDE] */
    float *weights, *slopes;            /* [query][length] */
    float *sums;                        /* [length][keys' then values' gradients] */
    float *edge;                        /* ROWS x WIDE */
} Scratch;

/* A tile's keys, or values, in the order of its ranges. */
INLINE void copy_keys(const Row *row, const Tile *tile, int64_t column, float *to_turned, float *to_panels, int bf16)
{
    int64_t place = 0;
    for (const int64_t *range = tile->ranges; to_panels && range < tile->ranges_end; range += 2) {
        const void *array = from(row->qkv, range[0] * row->stride + column, bf16);
        panels(array, row->stride, range[1] - range[0], row->width, tile->length, place, 1, to_panels, bf16);
        place += range[1] - range[0];
    }
    for (int64_t panel = 0; to_panels && panel < row->width / WIDE; panel++)
        memset(to_panels + (panel * tile->length + place) * WIDE, 0,
               sizeof(float) * (size_t)((tile->length - place) * WIDE));
    place = 0;
    for (const int64_t *range = tile->ranges; to_turned && range < tile->ranges_end; range += 2)
        for (int64_t key = range[0]; key < range[1]; key++, place++)
            for (int64_t i = 0; i < row->width; i++)
                to_turned[(place / WIDE * row->width + i) * WIDE + place % WIDE] =
                    load(row->qkv, key * row->stride + column + i, bf16);
    for (; to_turned && place < tile->length; place++)
        for (int64_t i = 0; i < row->width; i++)
            to_turned[(place / WIDE * row->width + i) * WIDE + place % WIDE] = 0;
}

/* Products of queries, or of what is above them, and turned keys or values. */
static void all_scores(const float *states, const float *keys, int64_t count, int64_t first, int64_t last,
                       int64_t width, int64_t length, float *to)
{
    for (int64_t panel = first; panel < last; panel++)
        for (int64_t at = 0; at < count; at += ROWS)
            block(states + at * width, width, 1, keys + panel * width * WIDE, WIDE, width,
                  to + at * length + panel * WIDE, length, 0);
}

/* Sums over keys, [query][length] @ panels, times a factor a query (or one for all). */
INLINE void over_keys(const Row *row, const float *weights, const float *right, int64_t count, int64_t first,
                      int64_t last, int64_t length, const float *factors, float factor, const Scratch *s, void *to,
                      int64_t stride, int bf16)
{
    for (int64_t column = 0; column < row->width; column += WIDE)
        for (int64_t at = 0; at < count; at += ROWS) {
            block(weights + at * length + first * WIDE, length, 1, right + (column * length + first * WIDE * WIDE),
                  WIDE, (last - first) * WIDE, s->edge, WIDE, 0);
            for (int64_t i = 0; i < ROWS && at + i < count; i++)
                for (int64_t j = 0; j < WIDE; j++)
                    store(to, (at + i) * stride + column + j,
                          s->edge[i * WIDE + j] * (factors ? factors[at + i] : factor), bf16);
        }
}

INLINE void forward_piece(const Row *row, const Tile *tile, int64_t head, int64_t piece, const Scratch *s, int bf16)
{
    const int64_t at = piece * QUERIES, width = row->width, length = tile->length;
    const int64_t count = tile->queries - at < QUERIES ? tile->queries - at : QUERIES;
    const int64_t first = tile->first[piece], last = tile->last[piece], start = tile->start + at;
    const int64_t begin = first * WIDE, end = last * WIDE < tile->keys ? last * WIDE : tile->keys;
    float factors[QUERIES];
    rows_of(from(row->qkv, start * row->stride + head * width, bf16), row->stride, count, QUERIES, width, row->scaling,
            s->query, bf16);
    all_scores(s->query, s->keys_turned, count, first, last, width, length, s->weights);
    for (int64_t i = 0; i < count; i++) {
        float *scores = s->weights + i * length, best = -INFINITY, sum = 0;
        const void *bias = from(tile->bias, (at + i) * tile->keys, bf16);
#pragma omp simd reduction(max : best)
        for (int64_t k = begin; k < end; k++) {
            scores[k] += load(bias, k, bf16);
            best = scores[k] > best ? scores[k] : best;
        }
#pragma omp simd reduction(+ : sum)
        for (int64_t k = begin; k < end; k++) {
            scores[k] = exponential(scores[k] - best);
            sum += scores[k];
        }
        for (int64_t k = end; k < last * WIDE; k++)
            scores[k] = 0;
        factors[i] = 1 / sum;
        if (row->kept) {
            float *kept = row->kept + head * row->tokens + start + i;
            kept[0] = best;
            kept[row->heads * row->tokens] = logf(sum);
        }
    }
    over_keys(row, s->weights, s->value_panels, count, first, last, length, factors, 1, s,
              from(row->out, (start * row->heads + head) * width, bf16), row->heads * width, bf16);
}

/* Adds to the tile's sums of the gradients of keys and values. */
static void over_queries(const Row *row, const float *weights, const float *right, int64_t count, int64_t first,
                         int64_t last, int64_t length, float *sums)
{
    for (int64_t key = first * WIDE; key < last * WIDE; key += ROWS)
        for (int64_t column = 0; column < row->width; column += WIDE)
            block(weights + key, 1, length, right + column, row->width, count, sums + key * 2 * row->width + column,
                  2 * row->width, 1);
}

INLINE void backward_piece(const Row *row, const Tile *tile, int64_t head, int64_t piece, const Scratch *s, int bf16)
{
    const int64_t at = piece * QUERIES, width = row->width, length = tile->length, stride = row->heads * width;
    const int64_t count = tile->queries - at < QUERIES ? tile->queries - at : QUERIES;
    const int64_t first = tile->first[piece], last = tile->last[piece], start = tile->start + at;
    const int64_t begin = first * WIDE, end = last * WIDE < tile->keys ? last * WIDE : tile->keys;
    const int64_t padded = last * WIDE + ROWS < length ? last * WIDE + ROWS : length;
    const void *query = from(row->qkv, start * row->stride + head * width, bf16);
    const void *above = from(row->grad_out, start * stride + head * width, bf16);
    const void *out = from(row->out_read, start * stride + head * width, bf16);
    rows_of(query, row->stride, count, QUERIES, width, row->scaling, s->query, bf16);
    rows_of(above, stride, count, QUERIES, width, 1, s->above, bf16);
    all_scores(s->query, s->keys_turned, count, first, last, width, length, s->weights);
    all_scores(s->above, s->values_turned, count, first, last, width, length, s->slopes);
    for (int64_t i = 0; i < count; i++) {
        float *weights = s->weights + i * length, *slopes = s->slopes + i * length, along = 0;
        const void *bias = from(tile->bias, (at + i) * tile->keys, bf16);
        const float *kept = row->kept_read + head * row->tokens + start + i;
        const float best = kept[0], log_sum = kept[row->heads * row->tokens];
#pragma omp simd reduction(+ : along)
        for (int64_t j = 0; j < width; j++)
            along += load(above, i * stride + j, bf16) * load(out, i * stride + j, bf16);
#pragma omp simd
        for (int64_t k = begin; k < end; k++) {
            float apart = weights[k] + load(bias, k, bf16) - best; /* exact near the greatest */
            weights[k] = exponential((apart > 0 ? 0 : apart) - log_sum); /* a NaN stays one */
            slopes[k] = weights[k] * (slopes[k] - along);
        }
        for (int64_t k = end; k < padded; k++) /* blocks of keys may end beyond the last panel */
            weights[k] = slopes[k] = 0;
    }
    over_keys(row, s->slopes, s->key_panels, count, first, last, length, NULL, row->scaling, s,
              from(row->grad_qkv, start * row->stride + head * width, bf16), row->stride, bf16);
    over_queries(row, s->slopes, s->query, count, first, last, length, s->sums);
    over_queries(row, s->weights, s->above, count, first, last, length, s->sums + width);
}

/* A tile's sums to this thread's sums of the row. */
static void add_sums(const Row *row, const Tile *tile, int64_t thread, int64_t key_head, const float *sums)
{
    const int64_t both = 2 * row->width;
    float *total = row->sums + (thread + key_head) * row->tokens * both;
    uint8_t *has = row->has_sums + thread * row->key_heads + key_head;
    if (!*has)
        memset(total, 0, sizeof(float) * (size_t)(row->tokens * both));
    *has = 1;
    for (const int64_t *range = tile->ranges; range < tile->ranges_end; range += 2) {
        const int64_t values = (range[1] - range[0]) * both;
        for (int64_t i = 0; i < values; i++)
            total[range[0] * both + i] += sums[i];
        sums += values;
    }
}

/* Gradients of a token's keys and values: the threads' sums, in their order. */
INLINE void put_sums(const Row *row, int64_t token, float *sum, int bf16)
{
    const int64_t width = row->width, both = 2 * width;
    for (int64_t key_head = 0; key_head < row->key_heads; key_head++) {
        memset(sum, 0, sizeof(float) * (size_t)both);
        for (int64_t t = 0; t < row->threads; t++) {
            if (!row->has_sums[t * row->key_heads + key_head])
                continue;
            const float *own = row->sums + ((t + key_head) * row->tokens + token) * both;
#pragma omp simd
            for (int64_t i = 0; i < both; i++)
                sum[i] += own[i];
        }
        for (int64_t part = 0; part < 2; part++) {
            const int64_t at = token * row->stride + (row->heads + key_head + part * row->key_heads) * width;
            void *to = from(row->grad_qkv, at, bf16);
#pragma omp simd
            for (int64_t i = 0; i < width; i++)
                store(to, i, sum[part * width + i], bf16);
        }
    }
}

INLINE void read_bias(const Tile *tile, int64_t piece, int bf16)
{
    int64_t first = tile->keys, last = 0;
    for (int64_t i = piece * QUERIES; i < (piece + 1) * QUERIES && i < tile->queries; i++) {
        const void *bias = from(tile->bias, i * tile->keys, bf16);
        int64_t low = 0, high = tile->keys;
        while (low < first && load(bias, low, bf16) == -INFINITY)
            low++;
        while (high > last && load(bias, high - 1, bf16) == -INFINITY)
            high--;
        first = low < first ? low : first;
        last = high > last ? high : last;
    }
    tile->first[piece] = first / WIDE;
    tile->last[piece] = (last + WIDE - 1) / WIDE;
}

/* This thread's part of the work: consecutive pieces of all heads and tiles, by key head, so that few threads add to
   the same sums. */
INLINE void work(const Row *row, int64_t thread, const Scratch *s, int bf16)
{
    int64_t total = 0, done = 0;
    for (const Tile *tile = row->tiles; tile < row->tiles + row->n_tiles; tile++)
        for (int64_t p = 0; p < tile->pieces; p++)
            total += (tile->last[p] - tile->first[p] + FIXED_COST) * row->heads;
    for (int64_t step = 0; step < row->key_heads * row->n_tiles; step++) {
        const int64_t key_head = step / row->n_tiles;
        const Tile *tile = row->tiles + step % row->n_tiles;
        const int64_t keys = (row->heads + key_head) * row->width, values = keys + row->key_heads * row->width;
        int begun = 0;
        for (int64_t head = key_head * row->group; head < (key_head + 1) * row->group; head++)
            for (int64_t p = 0; p < tile->pieces; p++) {
                const int64_t cost = tile->last[p] - tile->first[p] + FIXED_COST;
                const int mine = (2 * done + cost) * row->threads / (2 * total) == thread;
                done += cost;
                if (!mine)
                    continue;
                if (!begun) {
                    copy_keys(row, tile, keys, s->keys_turned, s->key_panels, bf16);
                    copy_keys(row, tile, values, s->values_turned, s->value_panels, bf16);
                    if (row->grad_out)
                        memset(s->sums, 0, sizeof(float) * (size_t)(tile->length * 2 * row->width));
                    begun = 1;
                }
                if (row->grad_out)
                    backward_piece(row, tile, head, p, s, bf16);
                else
                    forward_piece(row, tile, head, p, s, bf16);
            }
        if (begun && row->grad_out)
            add_sums(row, tile, thread, key_head, s->sums);
    }
}

/* Memory is laid out twice: from address 0 to learn how much it takes, and then where it is. */
static void *take(uintptr_t *at, int64_t bytes)
{
    void *here = bytes ? (void *)*at : NULL;
    *at += ((uintptr_t)bytes + 63) / 64 * 64;
    return here;
}

static Scratch lay_out_scratch(const Row *row, uintptr_t *at)
{
    const int64_t one = sizeof(float), queries = QUERIES * row->width * one, keys = row->longest * row->width * one;
    const int64_t backward = row->grad_out != NULL, weights = QUERIES * row->longest * one;
    return (Scratch){
        .query = take(at, queries),
        .above = take(at, queries * backward),
        .keys_turned = take(at, keys),
        .values_turned = take(at, keys * backward),
        .key_panels = take(at, keys * backward),
        .value_panels = take(at, keys * !backward),
        .weights = take(at, weights),
        .slopes = take(at, weights * backward),
        .sums = take(at, 2 * keys * backward),
        .edge = take(at, ROWS * WIDE * one),
    };
}

static void lay_out(Row *row, uintptr_t *at, const int64_t *tiles, const int64_t *ranges, int bf16)
{
    const int places = *at != 0;
    const int64_t sums = row->tokens * 2 * row->width * (int64_t)sizeof(float);
    row->tiles = take(at, row->n_tiles * (int64_t)sizeof(Tile));
    for (int64_t i = 0; i < row->n_tiles; i++, tiles += 5) {
        Tile tile = {.start = tiles[0], .queries = tiles[1] - tiles[0], .ranges = ranges + 2 * tiles[2]};
        tile.ranges_end = tile.ranges + 2 * tiles[3];
        tile.bias = from(row->bias, tiles[4], bf16);
        tile.pieces = (tile.queries + QUERIES - 1) / QUERIES;
        for (const int64_t *range = tile.ranges; range < tile.ranges_end; range += 2)
            tile.keys += range[1] - range[0];
        tile.length = (tile.keys + WIDE - 1) / WIDE * WIDE + WIDE;
        tile.first = take(at, tile.pieces * (int64_t)sizeof(int64_t));
        tile.last = take(at, tile.pieces * (int64_t)sizeof(int64_t));
        row->longest = tile.length > row->longest ? tile.length : row->longest;
        if (places)
            row->tiles[i] = tile;
    }
    row->has_sums = take(at, row->threads * row->key_heads);
    row->sums = take(at, row->grad_out ? (row->threads + row->key_heads) * sums : 0);
    row->scratch = *at;
    uintptr_t end = row->scratch;
    lay_out_scratch(row, &end);
    row->scratch_bytes = (int64_t)(end - row->scratch);
    *at += (uintptr_t)(row->scratch_bytes * row->threads);
}

static int attend(Row *row, const int64_t *tiles, const int64_t *ranges, int64_t bf16)
{
    if (row->width < 1 || row->width % 32 || row->key_heads < 1 || row->heads % row->key_heads)
        return -1;
    row->group = row->heads / row->key_heads;
    row->threads = row->threads < 1 ? 1 : row->threads;
    uintptr_t bytes = 0;
    lay_out(row, &bytes, tiles, ranges, bf16 != 0);
    char *memory = aligned_alloc(64, bytes);
    if (!memory)
        return -1;
    uintptr_t at = (uintptr_t)memory;
    lay_out(row, &at, tiles, ranges, bf16 != 0);
    memset(row->has_sums, 0, (size_t)(row->threads * row->key_heads));
#pragma omp parallel num_threads((int)row->threads)
    {
        const int64_t thread = omp_get_thread_num();
        uintptr_t own = row->scratch + (uintptr_t)(thread * row->scratch_bytes);
        const Scratch scratch = lay_out_scratch(row, &own);
        for (int64_t i = 0; i < row->n_tiles; i++)
#pragma omp for schedule(static) nowait
            for (int64_t p = 0; p < row->tiles[i].pieces; p++)
                BY_TYPE(read_bias(row->tiles + i, p, BF16));
#pragma omp single
        row->threads = omp_get_num_threads(); /* may be fewer than asked for */
        BY_TYPE(work(row, thread, &scratch, BF16));
        if (row->grad_out) {
#pragma omp barrier
#pragma omp for schedule(static) nowait
            for (int64_t token = 0; token < row->tokens; token++)
                BY_TYPE(put_sums(row, token, scratch.sums, BF16));
        }
    }
    free(memory);
    return 0;
}

/* Both return 0, or -1 where the width of a head or the memory is not enough. */

int sv_attend_forward(const void *qkv, int64_t tokens, int64_t stride, int64_t heads, int64_t key_heads, int64_t width,
                      float scaling, int64_t n_tiles, const int64_t *tiles, const int64_t *ranges, const void *bias,
                      void *out, float *kept, int64_t bf16, int64_t threads)
{
    Row row = {.qkv = qkv, .tokens = tokens, .stride = stride, .heads = heads, .key_heads = key_heads, .width = width,
               .scaling = scaling, .n_tiles = n_tiles, .bias = bias, .out = out, .kept = kept, .threads = threads};
    return attend(&row, tiles, ranges, bf16);
}

int sv_attend_backward(const void *qkv, int64_t tokens, int64_t stride, int64_t heads, int64_t key_heads, int64_t width,
                       float scaling, int64_t n_tiles, const int64_t *tiles, const int64_t *ranges, const void *bias,
                       const void *out, const float *kept, const void *grad_out, void *grad_qkv, int64_t bf16,
                       int64_t threads)
{
    Row row = {.qkv = qkv, .tokens = tokens, .stride = stride, .heads = heads, .key_heads = key_heads, .width = width,
               .scaling = scaling, .n_tiles = n_tiles, .bias = bias, .out_read = out, .kept_read = kept,
               .grad_out = grad_out, .grad_qkv = grad_qkv, .threads = threads};
    return attend(&row, tiles, ranges, bf16);
}
