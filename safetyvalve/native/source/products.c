/* Matrix products in vectors of 512 bits, in fp32 and in bf16 summed in fp32.

   Both operands are copied in pieces, in the order in which they are multiplied: of the left one strips of ROWS rows, of
   the right one panels of COLUMNS columns. The sums of a strip and a panel stay in registers (Goto and van de Geijn,
   Anatomy of high-performance matrix multiplication, 2008). In bf16 two neighbours of the inner dimension are one word
   of 32 bits, as the instruction wants them, so that all but the copying is the same. */

#include <stdint.h>

#if defined(__AVX512F__) && defined(__AVX512BF16__)

#include <stdlib.h>

#include "words.h"

#define ROWS 14 /* 28 sums of 16 values; of 32 registers two hold the right operand */
#define STRIP 16 /* words a step of a strip: a cache line */
#define COLUMNS 32
#define INNER 480 /* words of the inner dimension that are multiplied in one go */
#define PANELS (200 * 1024) /* bytes of panels that are meant to stay in a core's second cache */
#define STRIPS 4 /* that a thread takes at a time */
#define LONGEST 3584 /* rows and columns that are copied at a time: both copies are to fit the third cache */

typedef uint32_t word;

/* A matrix by its rows, of 32-bit values or of 16-bit ones. */
typedef struct {
    const void *values;
    int64_t stride; /* values from one row to the next */
    int64_t turned; /* its columns are the inner dimension, else its rows */
} operand;

typedef struct {
    operand left, right;
    int64_t rows, inner, columns;
    void *out;
    int64_t stride, narrow;
    const float *added;
    int64_t added_stride;
} product;

int64_t sv_product_ready(void)
{
    return 1;
}

static inline __mmask16 first(int64_t count)
{
    return count >= 16 ? 0xffff : (__mmask16)((1u << count) - 1);
}

/* `here` of up to 16 rows from `row`, words `word_at` and following of each, as columns `at` of [step][width]. */
static inline __attribute__((always_inline)) void turned(const operand *from, int64_t row, int64_t here, int64_t word_at, int64_t steps, int64_t narrow,
                          int width, int at, word *out)
{
    int64_t stride = narrow ? from->stride / 2 : from->stride;
    const word *words = (const word *)from->values + row * stride + word_at;
    int64_t step = 0;
    for (; step + 16 <= steps && here >= ROWS; step += 16) {
        __m512i block[16];
        for (int64_t i = 0; i < 16; i++)
            block[i] = i < ROWS || here >= 16 ? _mm512_loadu_si512(words + i * stride + step) : _mm512_setzero_si512();
        transpose(block);
        for (int64_t i = 0; i < 16; i++)
            _mm512_store_si512(out + (step + i) * width + at, block[i]);
    }
    for (; step < steps; step += 16) {
        __m512i block[16];
        for (int64_t i = 0; i < 16; i++)
            block[i] = i < here ? _mm512_maskz_loadu_epi32(first(steps - step), words + i * stride + step)
                                : _mm512_setzero_si512();
        transpose(block);
        for (int64_t i = 0; i < 16 && step + i < steps; i++)
            _mm512_store_si512(out + (step + i) * width + at, block[i]);
    }
}

/* Words `step` of `here` of up to 16 columns: a row of fp32, or two of bf16, the second 0 past the last. */
static inline __m512i across(const operand *from, int64_t step, int64_t column, int64_t here, int64_t inner, int64_t narrow)
{
    if (!narrow && here >= 16)
        return _mm512_loadu_si512((const word *)from->values + step * from->stride + column);
    if (!narrow)
        return _mm512_maskz_loadu_epi32(first(here), (const word *)from->values + step * from->stride + column);
    const uint16_t *row = (const uint16_t *)from->values + 2 * step * from->stride + column;
    __m512i pair[2];
    for (int i = 0; i < 2; i++)
        pair[i] = 2 * step + i >= inner ? _mm512_setzero_si512()
                  : here >= 16 ? _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(row + i * from->stride)))
                               : _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first(here), row + i * from->stride));
    return paired(pair[0], pair[1]);
}

/* A strip of the left operand or a panel of the right one, as [step][width]; zeros past the last row or column. */
static inline void copied(const operand *from, int64_t at, int64_t here, int64_t begin, int64_t steps, int64_t inner,
                          int64_t narrow, int width, word *out)
{
    if (from->turned) {
        for (int i = 0; i < width; i += 16)
            turned(from, at + i, here - i, begin, steps, narrow, width, i, out);
        return;
    }
    for (int64_t step = 0; step < steps; step++)
        for (int i = 0; i < width; i += 16)
            _mm512_store_si512(out + step * width + i, across(from, begin + step, at + i, here - i, inner, narrow));
}

/* Where the sums of a strip and a panel go, as far as the result has rows. */
typedef struct {
    void *out;
    int64_t stride, rows, narrow;
    const float *added;
    int64_t added_stride;
} place;

static inline void stored(const place *to, int64_t i, __m512 low, __m512 high)
{
    if (to->added) {
        const float *more = to->added + i * to->added_stride;
        low = _mm512_add_ps(low, _mm512_loadu_ps(more));
        high = _mm512_add_ps(high, _mm512_loadu_ps(more + 16));
    }
    if (to->narrow) {
        _mm512_storeu_si512((uint16_t *)to->out + i * to->stride, (__m512i)_mm512_cvtne2ps_pbh(high, low));
    } else {
        _mm512_storeu_ps((float *)to->out + i * to->stride, low);
        _mm512_storeu_ps((float *)to->out + i * to->stride + 16, high);
    }
}

static inline __attribute__((always_inline)) void summed(const word *strip, const word *panel, int64_t steps, int narrow,
                                                         const place *to)
{
    __m512 sum[ROWS][2];
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++)
        sum[i][0] = sum[i][1] = _mm512_setzero_ps();
    for (int64_t step = 0; step < steps; step++, strip += STRIP, panel += COLUMNS) {
        const __m512i low = _mm512_load_si512(panel), high = _mm512_load_si512(panel + 16);
        _mm_prefetch((const char *)(panel + 8 * COLUMNS), _MM_HINT_T0);
        _mm_prefetch((const char *)(panel + 8 * COLUMNS + 16), _MM_HINT_T0);
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; i++) {
            const __m512i one = _mm512_set1_epi32((int)strip[i]);
            if (narrow) {
                sum[i][0] = _mm512_dpbf16_ps(sum[i][0], (__m512bh)one, (__m512bh)low);
                sum[i][1] = _mm512_dpbf16_ps(sum[i][1], (__m512bh)one, (__m512bh)high);
            } else {
                sum[i][0] = _mm512_fmadd_ps((__m512)one, (__m512)low, sum[i][0]);
                sum[i][1] = _mm512_fmadd_ps((__m512)one, (__m512)high, sum[i][1]);
            }
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++)
        if (i < to->rows)
            stored(to, i, sum[i][0], sum[i][1]);
}

/* All strips with all panels of one piece, shared among the threads. */
static inline __attribute__((always_inline)) void multiplied(const product *p, const word *strips, const word *panels,
                                                             int64_t row, int64_t rows, int64_t column, int64_t columns,
                                                             int64_t steps, int narrow, void *out, int64_t narrow_out,
                                                             int64_t stride, const float *added, int64_t added_stride)
{
    int64_t n_strips = (rows + ROWS - 1) / ROWS, n_panels = columns / COLUMNS;
    int64_t kept = PANELS / (steps * COLUMNS * (int64_t)sizeof(word));
    kept = kept < 1 ? 1 : kept;
    int64_t chunks = (n_panels + kept - 1) / kept, groups = (n_strips + STRIPS - 1) / STRIPS;
    (void)p;
#pragma omp for collapse(2) schedule(dynamic, 1)
    for (int64_t chunk = 0; chunk < chunks; chunk++)
        for (int64_t group = 0; group < groups; group++)
            for (int64_t s = group * STRIPS; s < (group + 1) * STRIPS && s < n_strips; s++)
                for (int64_t panel = chunk * kept; panel < (chunk + 1) * kept && panel < n_panels; panel++) {
                    int64_t at = row + s * ROWS, beside = column + panel * COLUMNS;
                    place to = {.out = narrow_out ? (void *)((uint16_t *)out + at * stride + beside)
                                                  : (void *)((float *)out + at * stride + beside),
                                .stride = stride, .rows = rows - s * ROWS, .narrow = narrow_out,
                                .added = added ? added + at * added_stride + beside : NULL,
                                .added_stride = added_stride};
                    summed(strips + s * steps * STRIP, panels + panel * steps * COLUMNS, steps, narrow, &to);
                }
}

static inline __attribute__((always_inline)) int64_t run(const product *p, int narrow, int64_t threads)
{
    int64_t words = narrow ? (p->inner + 1) / 2 : p->inner, pieces = (words + INNER - 1) / INNER;
    int64_t longest = (words + pieces - 1) / pieces;
    int64_t tall = p->rows < LONGEST ? p->rows : LONGEST, wide = p->columns < LONGEST ? p->columns : LONGEST;
    wide = wide / COLUMNS * COLUMNS;
    /* Cache lines more than needed: what is fetched ahead stays within. */
    word *strips = aligned_alloc(64, ((tall + ROWS - 1) / ROWS * STRIP * longest + 1024) / 16 * 64);
    word *panels = aligned_alloc(64, (wide * longest + 1024) / 16 * 64);
    float *total = NULL;
    if (pieces > 1 && p->narrow)
        total = aligned_alloc(64, p->rows * p->columns * sizeof(float));
    if (!strips || !panels || (pieces > 1 && p->narrow && !total)) {
        free(strips);
        free(panels);
        free(total);
        return -1;
    }
#pragma omp parallel num_threads(threads)
    for (int64_t begin = 0; begin < words; begin += longest) {
        int64_t steps = words - begin < longest ? words - begin : longest;
        int64_t last = begin + steps == words;
        /* Sums of the pieces so far are in the result itself, or beside it if that is bf16. */
        void *out = total && !last ? (void *)total : p->out;
        int64_t stride = total && !last ? p->columns : p->stride;
        const float *added = !begin ? p->added : total ? total : (const float *)p->out;
        int64_t added_stride = !begin ? p->added_stride : total ? p->columns : p->stride;
        for (int64_t column = 0; column < p->columns; column += wide) {
            int64_t columns = p->columns - column < wide ? p->columns - column : wide;
#pragma omp for schedule(static) nowait
            for (int64_t panel = 0; panel < columns / COLUMNS; panel++)
                copied(&p->right, column + panel * COLUMNS, COLUMNS, begin, steps, p->inner, narrow, COLUMNS,
                       panels + panel * steps * COLUMNS);
            for (int64_t row = 0; row < p->rows; row += tall) {
                int64_t rows = p->rows - row < tall ? p->rows - row : tall;
                if (column == 0 || tall < p->rows) {
#pragma omp for schedule(static) nowait
                    for (int64_t s = 0; s < (rows + ROWS - 1) / ROWS; s++)
                        copied(&p->left, row + s * ROWS, rows - s * ROWS < ROWS ? rows - s * ROWS : ROWS, begin, steps,
                               p->inner, narrow, STRIP, strips + s * steps * STRIP);
                }
#pragma omp barrier
                multiplied(p, strips, panels, row, rows, column, columns, steps, narrow, out, p->narrow && last, stride,
                           added, added_stride);
            }
        }
    }
    free(strips);
    free(panels);
    free(total);
    return 0;
}

/* out = left @ right (+ added).

   left [rows, inner] and right [inner, columns] are given as they are or, of left without `left_turned` and of right
   with `right_turned`, as their transposes: always by rows, which are left_stride and right_stride values apart. Both
   fp32, or both bf16 with `narrow`. A side whose rows run along the inner dimension has it, and its stride, even in
   bf16. out [rows, columns], with rows `stride` apart: bf16 with `narrow_out`, else fp32. added: fp32, as out if that is
   fp32, rows added_stride apart, may be out; or NULL. Columns are a multiple of 32; inner is at least 1.
   0, or -1 without memory. */
int64_t sv_product(const void *left, int64_t left_stride, int64_t left_turned, const void *right, int64_t right_stride,
                   int64_t right_turned, int64_t rows, int64_t inner, int64_t columns, int64_t narrow, void *out,
                   int64_t stride, int64_t narrow_out, const float *added, int64_t added_stride, int64_t threads)
{
    product p = {.left = {left, left_stride, left_turned}, .right = {right, right_stride, right_turned}, .rows = rows,
                 .inner = inner, .columns = columns, .out = out, .stride = stride, .narrow = narrow_out, .added = added,
                 .added_stride = added_stride};
    return narrow ? run(&p, 1, threads) : run(&p, 0, threads);
}

#else

int64_t sv_product_ready(void)
{
    return 0;
}

#endif
