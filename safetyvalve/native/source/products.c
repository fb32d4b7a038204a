/* Matrix products in vectors of 512 bits, in fp32 and in bf16 summed in fp32.

   Both operands are copied in pieces, in the order in which they are multiplied: of the left one strips of ROWS rows,
   of the right one panels of COLUMNS columns. The sums of a strip and a panel stay in registers (Goto and van de Geijn,
   Anatomy of high-performance matrix multiplication, 2008). In bf16 two neighbours of the inner dimension are one word
   of 32 bits, as the instruction wants them, so that all but the copying is the same. */

#include <stdint.h>

#if defined(__AVX512F__) && defined(__AVX512BF16__)

#include <omp.h>
#include <stdlib.h>

#include "words.h"

#define ROWS 14 /* 28 sums of 16 values; of 32 registers two hold the right operand */
#define STRIP 16 /* words a step of a strip: a cache line */
#define COLUMNS 32
#define INNER 640 /* words of the inner dimension that are multiplied in one go */
#define PANELS (200 * 1024) /* bytes of panels that are meant to stay in a core's second cache */
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
static inline __attribute__((always_inline)) void turned(const operand *from, int64_t row, int64_t here,
                                                         int64_t word_at, int64_t steps, int64_t narrow, int width,
                                                         int at, word *out)
{
    int64_t stride = narrow ? from->stride / 2 : from->stride;
    const word *words = (const word *)from->values + row * stride + word_at;
    int64_t step = 0;
    for (; step + 16 <= steps && here >= ROWS; step += 16) { /* nearly always, and without masks */
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
static inline __m512i across(const operand *from, int64_t step, int64_t column, int64_t here, int64_t inner,
                             int64_t narrow)
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

static inline __attribute__((always_inline)) void summed(const word *strip, const word *panel, int64_t steps,
                                                         int narrow, const place *to)
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

/* What is multiplied at one time: some words of the inner dimension, of some rows and some columns. */
typedef struct {
    const word *strips, *panels;
    int64_t row, rows, column, columns, steps;
    void *out;
    int64_t stride, narrow_out;
    const float *added;
    int64_t added_stride;
} piece;

/* Which strips and panels are a thread's: those of its place in a grid. */
typedef struct {
    int64_t down, across; /* threads that share the strips, and the panels */
    int64_t first_strip, last_strip, first_panel, last_panel;
} share;

/* So that the busiest has least to do; of grids that are alike in this the one that cuts the longer side, whose copies
   are then read by fewer threads: a cache line that another core wrote may be slow to get. */
static share shared(int64_t strips, int64_t panels, int64_t me, int64_t team)
{
    int64_t best = 1, least = INT64_MAX;
    int columns_first = panels * COLUMNS > strips * ROWS;
    for (int64_t i = 1; i <= team; i++) {
        int64_t down = columns_first ? i : team + 1 - i;
        if (team % down)
            continue;
        int64_t across = team / down, most = ((strips + down - 1) / down) * ((panels + across - 1) / across);
        if (most < least) {
            least = most;
            best = down;
        }
    }
    share s = {.down = best, .across = team / best};
    int64_t y = me / s.across, x = me % s.across;
    s.first_strip = strips * y / s.down;
    s.last_strip = strips * (y + 1) / s.down;
    s.first_panel = panels * x / s.across;
    s.last_panel = panels * (x + 1) / s.across;
    return s;
}

/* A thread's strips with its panels. */
static inline __attribute__((always_inline)) void multiplied(const piece *m, const share *s, int narrow)
{
    int64_t kept = PANELS / (m->steps * COLUMNS * (int64_t)sizeof(word));
    kept = kept < 1 ? 1 : kept;
    for (int64_t chunk = s->first_panel; chunk < s->last_panel; chunk += kept)
        for (int64_t strip = s->first_strip; strip < s->last_strip; strip++)
            for (int64_t panel = chunk; panel < chunk + kept && panel < s->last_panel; panel++) {
                int64_t row = m->row + strip * ROWS, column = m->column + panel * COLUMNS;
                char *out = (char *)m->out + (row * m->stride + column) * (m->narrow_out ? 2 : 4);
                place to = {.out = out, .stride = m->stride, .rows = m->rows - strip * ROWS, .narrow = m->narrow_out,
                            .added = m->added ? m->added + row * m->added_stride + column : NULL,
                            .added_stride = m->added_stride};
                summed(m->strips + strip * m->steps * STRIP, m->panels + panel * m->steps * COLUMNS, m->steps, narrow,
                       &to);
            }
}

static inline __attribute__((always_inline)) int64_t run(const product *p, int narrow, int64_t threads)
{
    int64_t words = narrow ? (p->inner + 1) / 2 : p->inner, pieces = (words + INNER - 1) / INNER;
    int64_t longest = (words + pieces - 1) / pieces;
    int64_t tall = p->rows < LONGEST ? p->rows : LONGEST, wide = p->columns < LONGEST ? p->columns : LONGEST;
    int64_t beside = pieces > 1 && p->narrow; /* sums of the pieces so far, where the result has no room for them */
    word *strips = aligned_alloc(64, (tall + ROWS - 1) / ROWS * STRIP * longest * sizeof(word));
    word *panels = aligned_alloc(64, wide * longest * sizeof(word));
    float *total = beside ? aligned_alloc(64, p->rows * p->columns * sizeof(float)) : NULL;
    if (!strips || !panels || (beside && !total)) {
        free(strips);
        free(panels);
        free(total);
        return -1;
    }
#pragma omp parallel num_threads(threads)
    for (int64_t begin = 0; begin < words; begin += longest) {
        int64_t team = omp_get_num_threads(), me = omp_get_thread_num(); /* may be fewer than asked for */
        piece m = {.strips = strips, .panels = panels, .steps = words - begin < longest ? words - begin : longest};
        int64_t more = begin + m.steps < words;
        m.out = total && more ? (void *)total : p->out;
        m.stride = total && more ? p->columns : p->stride;
        m.narrow_out = p->narrow && !more;
        m.added = !begin ? p->added : total ? total : (const float *)p->out;
        m.added_stride = !begin ? p->added_stride : total ? p->columns : p->stride;
        for (m.column = 0; m.column < p->columns; m.column += wide) {
            m.columns = p->columns - m.column < wide ? p->columns - m.column : wide;
            for (m.row = 0; m.row < p->rows; m.row += tall) {
                m.rows = p->rows - m.row < tall ? p->rows - m.row : tall;
                share s = shared((m.rows + ROWS - 1) / ROWS, m.columns / COLUMNS, me, team);
                /* What several threads read each of them copies a part of; what is there is not copied again. */
                if (m.row == 0)
                    for (int64_t panel = s.first_panel + me / s.across; panel < s.last_panel; panel += s.down)
                        copied(&p->right, m.column + panel * COLUMNS, COLUMNS, begin, m.steps, p->inner, narrow, COLUMNS,
                               panels + panel * m.steps * COLUMNS);
                if (m.column == 0 || tall < p->rows)
                    for (int64_t strip = s.first_strip + me % s.across; strip < s.last_strip; strip += s.across) {
                        int64_t left = m.rows - strip * ROWS;
                        copied(&p->left, m.row + strip * ROWS, left < ROWS ? left : ROWS, begin, m.steps, p->inner,
                               narrow, STRIP, strips + strip * m.steps * STRIP);
                    }
#pragma omp barrier
                multiplied(&m, &s, narrow);
#pragma omp barrier /* nobody reads the copies any more */
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
   bf16. out [rows, columns], with rows `stride` apart: bf16 with `narrow_out`, else fp32. added: fp32 [rows, columns],
   rows added_stride apart, may be out if that is fp32; or NULL. Columns are a multiple of 32; inner is at least 1.
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
