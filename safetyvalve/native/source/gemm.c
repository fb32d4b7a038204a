/* bf16 matrix products with AMX, summed in fp32.

   The right operand [inner, columns] is packed beforehand: panels of 32 columns, each a run of pairs of tiles, 32 of
   the inner dimension at a time. Of the left operand [rows, inner] each thread makes tiles first, unless
   sv_pack_transposed made them; it computes whole 32 x 32 blocks of the result. */

#include <stdint.h>

#if defined(__AMX_BF16__) && defined(__AVX512BF16__)

#include <omp.h>
#include <stdlib.h>

#include "tiles.h"

#define BLOCK 32
#define STEPS 64 /* of 32 of the inner dimension that are multiplied in one go */
#define ENOUGH 5 /* blocks of rows a thread */
#define CACHED (1 << 20) /* bytes of the left operand that are meant to stay in a core's second cache */

int64_t sv_gemm_ready(void)
{
    return tiles_allowed();
}

/* A matrix [rows, columns], whose transpose is the right operand of states @ matrix.T, and which is itself the right
   operand of slopes @ matrix. Both, or the one that is not NULL. fp32 in, rounded; multiples of 32.
   It is rows `at` and following of `total` rows that are one operand. */
void sv_pack_matrix(const float *matrix, int64_t rows, int64_t columns, int64_t at, int64_t total,
                    uint16_t *transposed, uint16_t *straight, int64_t threads)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t first = 0; first < rows; first += BLOCK) {
        for (int64_t column = 0; column < columns; column += BLOCK) {
            const float *block = matrix + first * columns + column;
            if (transposed) {
                uint16_t *out = transposed + ((at + first) / BLOCK * (columns / BLOCK) + column / BLOCK) * 2 * TILE;
                for (int half = 0; half < 2; half++) {
                    __m512i row[16];
                    for (int i = 0; i < 16; i++) {
                        const float *values = block + (half * 16 + i) * columns;
                        row[i] = (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(values + 16), _mm512_loadu_ps(values));
                    }
                    transpose(row);
                    for (int i = 0; i < 16; i++)
                        _mm512_storeu_si512(out + half * TILE + i * 32, row[i]);
                }
            }
            if (straight) {
                uint16_t *out = straight + (column / BLOCK * (total / BLOCK) + (at + first) / BLOCK) * 2 * TILE;
                for (int i = 0; i < 16; i++) {
                    const float *values = block + 2 * i * columns;
                    for (int half = 0; half < 2; half++) {
                        __m512i even = narrowed(_mm512_loadu_ps(values + half * 16));
                        __m512i odd = narrowed(_mm512_loadu_ps(values + columns + half * 16));
                        _mm512_storeu_si512(out + half * TILE + i * 32, paired(even, odd));
                    }
                }
            }
        }
    }
}

/* Rows `first` and the next of bf16 [rows, columns], 16 columns from `column`, in pairs; zeros past the last row. */
static inline __m512i row_pair(const uint16_t *states, int64_t rows, int64_t columns, int64_t first, int64_t column)
{
    __m512i pair[2];
    for (int i = 0; i < 2; i++)
        pair[i] = first + i < rows ? _mm512_cvtepu16_epi32(_mm256_loadu_si256(
                                         (const __m256i *)(states + (first + i) * columns + column)))
                                   : _mm512_setzero_si512();
    return paired(pair[0], pair[1]);
}

/* States [rows, columns] as the right operand of slopes.T @ states; the inner dimension, rows, is filled up to a
   multiple of 32 with zeros. Columns are a multiple of 32. */
void sv_pack_straight(const uint16_t *states, int64_t rows, int64_t columns, uint16_t *out, int64_t threads)
{
    int64_t steps = (rows + BLOCK - 1) / BLOCK;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t step = 0; step < steps; step++)
        for (int64_t column = 0; column < columns; column += BLOCK)
            for (int i = 0; i < 16; i++)
                for (int half = 0; half < 2; half++)
                    _mm512_storeu_si512(out + (column / BLOCK * steps + step) * 2 * TILE + half * TILE + i * 32,
                                        row_pair(states, rows, columns, step * BLOCK + 2 * i, column + half * 16));
}

/* Slopes [rows, columns] as the left operand of slopes.T @ states, in tiles: [column / 16, row / 32, 16, 32]. Columns
   are a multiple of 16. */
void sv_pack_transposed(const uint16_t *slopes, int64_t rows, int64_t columns, uint16_t *out, int64_t threads)
{
    int64_t steps = (rows + BLOCK - 1) / BLOCK;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t first = 0; first < columns; first += BLOCK) /* as the product's threads share its rows */
        for (int64_t step = 0; step < steps; step++)
            for (int64_t column = first; column < first + BLOCK && column < columns; column += 16) { /* a line of each row */
                __m512i row[16];
                for (int i = 0; i < 16; i++)
                    row[i] = row_pair(slopes, rows, columns, step * BLOCK + 2 * i, column);
                transpose(row);
                for (int i = 0; i < 16; i++)
                    _mm512_storeu_si512(out + (column / 16 * steps + step) * TILE + i * 32, row[i]);
            }
}

/* Where a finished block of sums goes, as far as the result has rows. */
typedef struct {
    const float *sums;
    int64_t rows;
    void *out;
    const float *added;
    int64_t at, stride; /* of the block's first row in out and added, and from one row to the next */
    int narrow;
} finished;

static inline void store_row(const finished *f, int64_t i)
{
    int64_t at = f->at + i * f->stride;
    __m512 low = _mm512_load_ps(f->sums + i * BLOCK), high = _mm512_load_ps(f->sums + i * BLOCK + 16);
    if (f->added) {
        low = _mm512_add_ps(low, _mm512_loadu_ps(f->added + at));
        high = _mm512_add_ps(high, _mm512_loadu_ps(f->added + at + 16));
    }
    if (f->narrow) {
        _mm512_storeu_si512((uint16_t *)f->out + at, (__m512i)_mm512_cvtne2ps_pbh(high, low));
    } else {
        _mm512_storeu_ps((float *)f->out + at, low);
        _mm512_storeu_ps((float *)f->out + at + 16, high);
    }
}

/* One 32 x 32 block of sums, from two runs of tiles and a panel. Rows of the block before are stored meanwhile, which
   costs nothing beside the products. The panel is meant to stay in the first cache, the two runs to pass it by. */
static inline void block_product(const uint16_t *upper, const uint16_t *lower, const uint16_t *panel, int64_t steps,
                                 float *sums, const finished *before)
{
    int64_t rows_a_step = (BLOCK + steps - 1) / steps, row = 0;
    IN_MEMORY();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t step = 0; step < steps; step++) {
        _tile_loadd(6, panel, 64);
        _tile_stream_loadd(4, upper, 64);
        _tile_loadd(7, panel + TILE, 64);
        _tile_stream_loadd(5, lower, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        for (int64_t i = 0; i < rows_a_step && row < before->rows; i++)
            store_row(before, row++);
        panel += 2 * TILE;
        upper += TILE;
        lower += TILE;
    }
    _tile_stored(0, sums, BLOCK * sizeof(float));
    _tile_stored(1, sums + 16, BLOCK * sizeof(float));
    _tile_stored(2, sums + 16 * BLOCK, BLOCK * sizeof(float));
    _tile_stored(3, sums + 16 * BLOCK + 16, BLOCK * sizeof(float));
    IN_MEMORY();
}

/* 16 rows of the left operand as tiles, with zeros for those past the last. */
static inline void left_tiles(const uint16_t *left, int64_t stride, int64_t here, int64_t steps, uint16_t *out)
{
    for (int64_t i = 0; i < 16; i++)
        for (int64_t step = 0; step < steps; step++)
            _mm512_storeu_si512(out + step * TILE + i * BLOCK, i < here
                                    ? _mm512_loadu_si512(left + i * stride + step * BLOCK)
                                    : _mm512_setzero_si512());
}

/* How many of `threads` share the rows, the others sharing the columns. All of them where there are rows enough: then
   nobody waits for tiles that another one makes. Else so that the busiest has least to do. */
static int64_t sharing_rows(int64_t row_blocks, int64_t panels, int64_t threads)
{
    int64_t best = 1, least = INT64_MAX;
    if (row_blocks >= ENOUGH * threads)
        return threads;
    for (int64_t by_rows = 1; by_rows <= threads; by_rows++) {
        if (threads % by_rows)
            continue;
        int64_t by_columns = threads / by_rows;
        int64_t most = ((row_blocks + by_rows - 1) / by_rows) * ((panels + by_columns - 1) / by_columns);
        if (most < least) {
            least = most;
            best = by_rows;
        }
    }
    return best;
}

typedef struct {
    const uint16_t *left; /* in rows, with `stride` from one to the next, or in tiles, with 0 */
    int64_t stride;
    uint16_t *made; /* tiles of the left operand, of as many steps as are multiplied in one go */
    int64_t span; /* of tiles, from 16 rows to the next */
    const uint16_t *right; /* panels of all steps */
    int64_t steps, rows, row_blocks, panels;
    void *out;
    int64_t narrow;
    const float *added;
    float *total; /* of the pieces so far, where the inner dimension is cut */
} product;

/* Steps `first` to `last` for some blocks of rows and some panels. */
static void multiply(const product *p, int64_t first, int64_t last, int64_t first_block, int64_t last_block,
                     int64_t first_panel, int64_t last_panel)
{
    const uint16_t *left = p->stride ? p->made : p->left;
    int64_t columns = p->panels * BLOCK;
    int64_t kept = CACHED / (2 * p->span * (int64_t)sizeof(uint16_t)); /* blocks of rows */
    const float *added = first ? p->total : p->added;
    int more = last < p->steps;
    float sums[2][BLOCK * BLOCK] __attribute__((aligned(64)));
    finished before = {.rows = 0};
    int turn = 0;
    kept = kept < 1 ? 1 : kept;
    for (int64_t chunk = first_block; chunk < last_block; chunk += kept) {
        int64_t chunk_end = chunk + kept < last_block ? chunk + kept : last_block;
        for (int64_t panel = first_panel; panel < last_panel; panel++)
            for (int64_t block = chunk; block < chunk_end; block++, turn = !turn) {
                const uint16_t *upper = left + 2 * block * p->span;
                int64_t rows = p->rows - block * BLOCK;
                block_product(upper, upper + p->span, p->right + (panel * p->steps + first) * 2 * TILE, last - first,
                              sums[turn], &before);
                before = (finished){.sums = sums[turn], .rows = rows < BLOCK ? rows : BLOCK,
                                    .out = more ? p->total : p->out, .added = added,
                                    .at = block * BLOCK * columns + panel * BLOCK, .stride = columns,
                                    .narrow = !more && p->narrow};
            }
    }
    for (int64_t row = 0; row < before.rows; row++)
        store_row(&before, row);
}

/* Tiles of steps `first` to `last` for some blocks of rows. */
static void make_tiles(const product *p, int64_t first, int64_t last, int64_t first_block, int64_t last_block)
{
    for (int64_t i = 2 * first_block; i < 2 * last_block; i++)
        left_tiles(p->left + 16 * i * p->stride + first * BLOCK, p->stride, p->rows - 16 * i, last - first,
                   p->made + i * p->span);
}

/* out = left @ right (+ added), right packed.

   left [rows, inner]: with `stride` its rows are that far apart, and tiles are made of them first, which are read
   faster; with 0 it is in tiles, see sv_pack_transposed.
   out [rows, columns]: bf16 where `narrow`, else fp32. added: fp32 [rows, columns], may be out; or NULL.
   Inner and columns are multiples of 32. 0, or -1 without memory. */
int64_t sv_gemm(const uint16_t *left, int64_t stride, const uint16_t *right, int64_t rows, int64_t inner,
                int64_t columns, void *out, int64_t narrow, const float *added, int64_t threads)
{
    product p = {.left = left, .stride = stride, .right = right, .steps = inner / BLOCK, .rows = rows,
                 .row_blocks = (rows + BLOCK - 1) / BLOCK, .panels = columns / BLOCK, .out = out, .narrow = narrow,
                 .added = added};
    /* A long inner dimension, such as a vocabulary, is cut, so that neither side has to be read again and again. */
    int64_t pieces = stride ? (p.steps + STEPS - 1) / STEPS : 1, longest = (p.steps + pieces - 1) / pieces;
    pieces = (p.steps + longest - 1) / longest;
    p.span = longest * TILE; /* also for a shorter last piece: a thread may still be at the one before */
    if (stride && !(p.made = aligned_alloc(64, p.row_blocks * longest * 2 * TILE * sizeof(uint16_t))))
        return -1;
    if (pieces > 1 && !(p.total = aligned_alloc(64, p.row_blocks * BLOCK * columns * sizeof(float)))) {
        free(p.made);
        return -1;
    }
#pragma omp parallel num_threads(threads)
    {
        int64_t team = omp_get_num_threads(), me = omp_get_thread_num(); /* may be fewer than asked for */
        int64_t by_rows = sharing_rows(p.row_blocks, p.panels, team), by_columns = team / by_rows;
        int64_t across = me / by_columns, along = me % by_columns;
        int64_t first_block = p.row_blocks * across / by_rows, last_block = p.row_blocks * (across + 1) / by_rows;
        int64_t first_panel = p.panels * along / by_columns, last_panel = p.panels * (along + 1) / by_columns;
        tile_setting before;
        tiles_begin(&before);
        for (int64_t piece = 0; piece < pieces; piece++) {
            int64_t first = piece * longest, last = first + longest < p.steps ? first + longest : p.steps;
            if (stride && by_columns == 1) {
                make_tiles(&p, first, last, first_block, last_block);
            } else if (stride) {
#pragma omp barrier /* nobody reads the tiles of the piece before */
                make_tiles(&p, first, last, p.row_blocks * me / team, p.row_blocks * (me + 1) / team);
#pragma omp barrier
            }
            multiply(&p, first, last, first_block, last_block, first_panel, last_panel);
        }
        tiles_end(&before);
    }
    free(p.made);
    free(p.total);
    return 0;
}

#else

int64_t sv_gemm_ready(void)
{
    return 0;
}

#endif
