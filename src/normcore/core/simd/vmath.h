/*
 * exp and what is made of it in vectors, log in scalars: from the operations of the SIMD layer, so that their bits are
 * the same everywhere.
 */
#ifndef NORMCORE_VMATH_H
#define NORMCORE_VMATH_H

#include "simd/simd.h"

#if NORMCORE_DTYPE == 32
/* ln 2 in a head of 16 bits (n times it is exact) and a tail. */
#define EXP_LOG2E  0x1.715476p+0f
#define EXP_LN2_HI 0x1.62e4p-1f
#define EXP_LN2_LO 0x1.7f7d1cp-20f
#define EXP_MIN    (-104.0f) /* exp is 0 below: half the least subnormal is 2^-150 = exp(-103.97...) */
#define EXP_MAX    89.0f
#define SILU_MIN   (-110.0f) /* silu is -0 below: half the least subnormal is that of -108.7... */
/*
 * exp(r) = 1 + r + r^2 Q(r) on |r| <= ln2/2: minimax of the relative error, weighted towards r < -1/4, where all
 * roundings may fall the same way. 0.991 ulp at most, of all floats; without the weight 1.009.
 */
static const real exp_q[] = {0x1.ffffecp-2f, 0x1.555496p-3f, 0x1.55651cp-5f, 0x1.123738p-7f, 0x1.61735p-10f};
#else
#define EXP_LOG2E  0x1.71547652b82fep+0
#define EXP_LN2_HI 0x1.62e42fefa2p-1
#define EXP_LN2_LO 0x1.9ef35793c7673p-41
#define EXP_MIN    (-745.2)
#define EXP_MAX    710.0
#define SILU_MIN   (-755.0) /* of -751.7... */
/* Interpolation in the Chebyshev nodes; relative error 2^-61.3. */
static const real exp_q[] = {0x1.0000000000000p-1,  0x1.5555555555557p-3,  0x1.5555555555556p-5,  0x1.11111111100dcp-7,
                             0x1.6c16c16c162d4p-10, 0x1.a01a01abe7fe1p-13, 0x1.a01a01a6d889cp-16, 0x1.71de0231960ebp-19,
                             0x1.27e4db646b17ep-22, 0x1.af4de97ca4194p-26, 0x1.1f730349868cep-29};
#endif

/* exp(r) - 1 for |r| <= ln2 / 2. */
NORMCORE_INLINE vreal v_exp_rest(vreal r) {
    const int degree = (int)(sizeof exp_q / sizeof exp_q[0]) - 1;
    vreal q = v_set1(exp_q[degree]);
    NORMCORE_UNROLL
    for (int i = degree - 1; i >= 0; i--) q = v_fma(q, r, v_set1(exp_q[i]));
    return v_fma(v_mul(r, r), q, r);
}

/*
 * exp(hi + lo) for hi <= EXP_MAX and |lo| at most half an ulp of hi: lo is added after the reduction, where it still
 * counts. 0 below EXP_MIN, whatever lo is; NaN for NaN in hi.
 */
NORMCORE_INLINE vreal v_exp_sum(vreal hi, vreal lo) {
    const vreal n = v_round(v_mul(hi, v_set1(EXP_LOG2E))); /* of any size below EXP_MIN, where nothing of it is used */
    vreal r = v_fnma(n, v_set1(EXP_LN2_HI), hi);
    r = v_add(v_fnma(n, v_set1(EXP_LN2_LO), r), lo);
    const vreal e = v_add(v_exp_rest(r), v_set1((real)1));
    return v_select(v_le(hi, v_set1(EXP_MIN)), v_zero(), v_scale(e, n));
}

/* exp(x) for any x. */
NORMCORE_INLINE vreal v_exp(vreal x) {
    const vreal inside = v_select(v_gt(x, v_set1(EXP_MAX)), v_set1(EXP_MAX), x);
    const vreal e = v_exp_sum(inside, v_zero());
    return v_select(v_isnan(x), v_set1(REAL_NAN), v_select(v_gt(x, v_set1(EXP_MAX)), v_set1(REAL_INFINITY), e));
}

/* A number in two pieces: lo is what hi, rounded, left out. */
typedef struct vpair {
    vreal hi, lo;
} vpair;

/* a + b with nothing lost (Dekker's Fast2Sum), for |a| >= |b| or a == 0. */
NORMCORE_INLINE vpair v_whole_sum(vreal a, vreal b) {
    vpair sum;
    sum.hi = v_add(a, b);
    sum.lo = v_sub(b, v_sub(sum.hi, a));
    return sum;
}

/* a / b: one division, and what its roundings and the lower pieces make of it. */
NORMCORE_INLINE vpair v_quotient(vpair a, vpair b) {
    const vreal inverse = v_div(v_set1((real)1), b.hi);
    vpair quotient;
    quotient.hi = v_mul(a.hi, inverse);
    const vreal rest = v_add(v_fnma(quotient.hi, b.hi, a.hi), v_fnma(quotient.hi, b.lo, a.lo));
    quotient.lo = v_mul(rest, inverse);
    return quotient;
}

/*
 * exp(x) for SILU_MIN <= x <= 0 in the pieces that tanh and the logistic function need: it is power (1 + rest), power
 * = 2^n, whose two terms lose nothing where 1 is taken away from them.
 */
typedef struct vexp_pieces {
    vreal n, power, rest, product; /* product: power rest */
    vpair one_more;                /* 1 + exp(x) */
} vexp_pieces;

NORMCORE_INLINE vexp_pieces v_exp_pieces(vreal x) {
    vexp_pieces e;
    e.n = v_round(v_mul(x, v_set1(EXP_LOG2E)));
    e.rest = v_exp_rest(v_fnma(e.n, v_set1(EXP_LN2_LO), v_fnma(e.n, v_set1(EXP_LN2_HI), x)));
    e.power = v_scale(v_set1((real)1), e.n);
    e.product = v_mul(e.power, e.rest);
    const vpair sum = v_whole_sum(e.power, e.product);
    e.one_more = v_whole_sum(v_set1((real)1), sum.hi);
    e.one_more.lo = v_add(e.one_more.lo, sum.lo);
    return e;
}

NORMCORE_INLINE vreal v_minus(vreal a) { return v_sub(v_zero(), a); }
NORMCORE_INLINE vreal v_minus_size(vreal a) { return v_select(v_gt(a, v_zero()), v_minus(a), a); }

/* (1 - exp(-2 |x|)) / (1 + exp(-2 |x|)) with the sign of x: odd to the bit. 1.35 ulp at most, of all floats. */
NORMCORE_INLINE vreal v_tanh(vreal x) {
    const vreal size = v_minus_size(x);
    const vexp_pieces e = v_exp_pieces(v_max(v_add(size, size), v_set1(SILU_MIN)));
    const vpair one_less = v_whole_sum(v_sub(v_set1((real)1), e.power), v_minus(e.product));
    const vpair quotient = v_quotient(one_less, e.one_more);
    const vreal y = v_add(quotient.hi, quotient.lo);
    return v_select(v_gt(x, v_zero()), y, v_select(v_gt(v_zero(), x), v_minus(y), x));
}

/*
 * The logistic function as value 2^n, n = 0 from x = 0 on: 1 / (1 + exp(-x)), or exp(x) / (1 + exp(x)) below, where
 * the power of two waits for the last rounding so that results may be subnormal. Of a NaN, nothing sensible.
 */
typedef struct vlogistic {
    vreal x; /* no further from 0 than SILU_MIN: nothing changes beyond */
    vpair value;
    vreal n, power;
} vlogistic;

NORMCORE_INLINE vlogistic v_logistic_pieces(vreal x) {
    const vreal size = v_max(v_minus_size(x), v_set1(SILU_MIN)), one = v_set1((real)1);
    const vmask below = v_gt(v_zero(), x);
    const vexp_pieces e = v_exp_pieces(size);
    vpair top = v_whole_sum(one, e.rest);
    top.hi = v_select(below, top.hi, one);
    top.lo = v_select(below, top.lo, v_zero());
    vlogistic s;
    s.x = v_select(v_gt(x, v_zero()), v_minus(size), size);
    s.value = v_quotient(top, e.one_more);
    s.n = v_select(below, e.n, v_zero());
    s.power = v_select(below, e.power, one);
    return s;
}

/* 1 / (1 + exp(-x)); 0.98 ulp at most, of all floats. */
NORMCORE_INLINE vreal v_logistic(vreal x) {
    const vlogistic s = v_logistic_pieces(x);
    return v_select(v_isnan(x), x, v_scale(v_add(s.value.hi, s.value.lo), s.n));
}

/* x / (1 + exp(-x)), -0 for -inf; 1.07 ulp at most, of all floats. */
NORMCORE_INLINE vreal v_silu(vreal x) {
    const vlogistic s = v_logistic_pieces(x);
    const vreal y = v_scale(v_fma(s.x, s.value.hi, v_mul(s.x, s.value.lo)), s.n);
    return v_select(v_le(x, v_set1(-SILU_MIN)), y, x);
}

/*
 * s (1 + x (1 - s)), s the logistic function of x. It passes 0 near -1.28, though no float is exact enough for it to be
 * 0: 2.83 ulp of the greater of it and s at most.
 */
NORMCORE_INLINE vreal v_silu_derivative(vreal x) {
    const vlogistic s = v_logistic_pieces(x);
    const vreal one = v_set1((real)1);
    const vreal others = v_fnma(s.power, s.value.lo, v_fnma(s.power, s.value.hi, one)); /* 1 - s */
    const vreal derivative = v_mul(v_add(s.value.hi, s.value.lo), v_fma(s.x, others, one));
    return v_select(v_isnan(x), x, v_scale(derivative, s.n));
}

/*
 * Natural logarithm of a positive normal double, error below 1 ulp: x = 2^k (1 + f), sqrt(1/2) <= 1 + f < sqrt(2), and
 * log(1 + f) by the even polynomial in s = f / (2 + f) of fdlibm's e_log.c.
 */
NORMCORE_INLINE double s_log(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits += 0x3ff0000000000000u - 0x3fe6a09e00000000u;
    const double k = (double)((int64_t)(bits >> 52) - 1023);
    bits = (bits & 0xfffffffffffffu) + 0x3fe6a09e00000000u;
    memcpy(&x, &bits, sizeof x);
    const double f = x - 1.0, half_square = 0.5 * f * f, s = f / (2.0 + f), z = s * s, w = z * z;
    const double even = w * (0x1.999999997fa04p-2 + w * (0x1.c71c51d8e78afp-3 + w * 0x1.39a09d078c69fp-3));
    const double odd =
        z * (0x1.5555555555593p-1 + w * (0x1.2492494229359p-2 + w * (0x1.7466496cb03dep-3 + w * 0x1.2f112df3e5244p-3)));
    return s * (half_square + (even + odd)) + k * 0x1.a39ef35793c76p-33 - half_square + f + k * 0x1.62e42fee00000p-1;
}

/* log(1 + x) for x >= 0, +inf or NaN; error about 1 ulp: what 1 + x drops comes back as a first-order correction. */
NORMCORE_INLINE double s_log1p(double x) {
    const double u = 1.0 + x;
    if (u == 1.0 || !(x < (double)INFINITY)) return x;
    return s_log(u) + (x - (u - 1.0)) / u;
}

/*
 * log(1 + x) of each lane for 0 <= x <= 1, or NaN: 2 atanh(t / 2) = t + t z Q(z) with t = 2 x / (2 + x) and z = t^2; x
 * itself where it is tiny. Q by interpolation in the Chebyshev nodes; relative error 2^-56.9.
 */
static const double log1p_unit_q[] = {
    0x1.5555555555555p-4,  0x1.999999999a3ddp-7,  0x1.24924923d44c6p-9,  0x1.c71c727143318p-12, 0x1.745cf0b0e03bdp-14,
    0x1.3b18b294bebf9p-16, 0x1.10ac75dc602b1p-18, 0x1.eb905e8575054p-21, 0x1.687a6e7c95176p-23, 0x1.4b0a26c5f2af0p-24};

NORMCORE_INLINE vwide w_log1p_unit(vwide x) {
    const int degree = (int)(sizeof log1p_unit_q / sizeof log1p_unit_q[0]) - 1;
    const vwide t = w_div(w_add(x, x), w_add(w_set1(2.0), x)), z = w_mul(t, t);
    vwide q = w_set1(log1p_unit_q[degree]);
    NORMCORE_UNROLL
    for (int i = degree - 1; i >= 0; i--) q = w_fma(q, z, w_set1(log1p_unit_q[i]));
    return w_fma(w_mul(t, z), q, t);
}

#endif
