package model

// gelu is the tanh form of the Gaussian error linear unit (Hendrycks and Gimpel
// 2016, arXiv 1606.08415): x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))).
func gelu(x float32) float32 {
	v := float64(x)
	inner := 0.7978845608028654 * (v + float64(0.044715*float64(v*float64(v*v))))
	return float32(float64(0.5*v) * (1 + tanh(inner)))
}

// tanh by a rational function on [-9, 9], to about 1e-7: plain products and sums
// of float64, so that every machine gives the same bits.
func tanh(x float64) float64 {
	x = max(-9, min(9, x))
	s := float64(x * x)
	p := horner(s, -2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08, 1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03)
	q := horner(s, 1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)
	return float64(x*p) / q
}

// horner evaluates a polynomial, highest coefficient first.
func horner(x float64, coefficients ...float64) float64 {
	sum := 0.0
	for _, c := range coefficients {
		sum = float64(sum*x) + c
	}
	return sum
}
