$PROBLEM labels that do not say which parameter is meant
$DATA data.txt IGNORE=#
$INPUT ID TIME DV
$PRED
CL = BASE*EXP(ETA(1) + ETA(2))
Y = CL + NOISE + CLEARANCE + OTHER
$THETA 1 ; BASE
$OMEGA
0.5 ; BASE of subjects
0.5 ; OTHERS
$SIGMA
100 ; NOISE_SD
$THETA CLEARANCE=1
