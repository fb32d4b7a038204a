/* What the kernels that multiply with AMX share. bf16 values travel as uint16_t. */
#ifndef SAFETYVALVE_TILES_H
#define SAFETYVALVE_TILES_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "words.h"

#define TILE 512 /* bf16 values of a tile: 16 rows of 64 bytes */

typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} __attribute__((packed, aligned(64))) tile_setting;

/* Whether the system lets this process use tiles; Linux wants to be asked before the first one. */
static inline int tiles_allowed(void)
{
    const long request_permission = 0x1023, tile_data = 18;
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

/* gcc takes the instructions on tiles for ones that touch eight bytes or none: what they read must be in memory first. */
#define IN_MEMORY() __asm__ volatile("" ::: "memory")

/* Eight full tiles for the calling thread. Its former setting goes to `before`, since oneDNN, which torch multiplies
   with, uses the same tiles in the same threads and takes its setting to stay. */
static inline void tiles_begin(tile_setting *before)
{
    tile_setting full;
    memset(&full, 0, sizeof full);
    full.palette = 1;
    for (int i = 0; i < 8; i++) {
        full.row_bytes[i] = 64;
        full.rows[i] = 16;
    }
    IN_MEMORY();
    _tile_storeconfig(before);
    _tile_loadconfig(&full);
    IN_MEMORY();
}

static inline void tiles_end(const tile_setting *before)
{
    IN_MEMORY();
    if (before->palette)
        _tile_loadconfig(before);
    else
        _tile_release();
}

/* 16 values rounded to the nearest bf16, as the low halves of 32-bit lanes. */
static inline __m512i narrowed(__m512 values)
{
    return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(values));
}

#endif
