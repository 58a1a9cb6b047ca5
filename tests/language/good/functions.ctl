$PROBLEM Every function and operator
$INPUT ID DV X Z
$DATA d.csv
$PRED
  A1 = EXP(X) + LOG(X) + LOG10(X) + SQRT(X) + ABS(X) + INT(X) + MOD(X,Z) + MIN(X,Z,1) + MAX(X,Z)
  A2 = SIN(X) + COS(X) + TAN(X) + ASIN(X) + ACOS(X) + ATAN(X) + ATAN2(X,Z) + SINH(X) + COSH(X) + TANH(X)
  A3 = GAMLN(X) + PHI(X) + FLOOR(X) + CEILING(X) + LFAC(X)
  A4 = -X**2 + X**-Z**2 - (-X)**2 - X*-Z + X-Z-1 - (X-Z) + X/Z/2 + X/(Z/2) - (X+Z)*2
  A5 = 1 + 1. + .5 + 1E3 + 1.5D-2 + 1.E+2
  IF (X.EQ.1.OR.Z.NE.2..AND..NOT.(X.LT.3)) A5 = 2
  IF (X<1) A5 = 3
  IF ((X.LE.1.OR.Z.GE.2).AND.X==Z) A5 = 4
  Y = A1 + A2 + A3 + A4 + A5 + THETA(1) + ETA(1) + EPS(1)
$THETA 1
$OMEGA 1
$SIGMA 1
