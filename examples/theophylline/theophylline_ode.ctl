$PROBLEM    Theophylline, 12 subjects, single oral dose, as differential equations

$INPUT      ID TIME AMT DV EVID MDV WT SEX
$DATA       theophylline.csv IGNORE=@

$SUBROUTINES ADVAN13 TOL=9

$MODEL      COMP=(DEPOT, DEFDOSE) COMP=(CENTRAL, DEFOBS)

$PK
  TVKA = THETA(1)
  TVK  = THETA(2)
  TVV  = THETA(3)
  KA   = TVKA*EXP(ETA(1))
  K    = TVK*EXP(ETA(2))
  V    = TVV*EXP(ETA(3))
  S2   = V                ; dose in mg, concentration in mg/L

$DES
  DADT(1) = -KA*A(1)
  DADT(2) = KA*A(1) - K*A(2)

$ERROR
  IPRED = F
  W     = 1               ; additive error
  IRES  = DV - IPRED
  IWRES = IRES/W
  Y     = F + W*EPS(1)

$THETA
  (0, 1.5)                ; KA (1/h)
  (0, 0.1)                ; K (1/h)
  (0, 30)                 ; V (L)

$OMEGA
  0.2                     ; IIV KA
  0.05                    ; IIV K
  0.05                    ; IIV V

$SIGMA
  0.5                     ; additive error (mg/L), variance

$ESTIMATION METHOD=1 INTERACTION MAXEVAL=9999 PRINT=5
$COVARIANCE PRINT=E

$TABLE ID TIME IPRED IRES IWRES CWRES EVID MDV
       ONEHEADER NOPRINT FILE=sdtab002
$TABLE ID KA K V ETA1 ETA2 ETA3
       ONEHEADER NOPRINT FILE=patab002
